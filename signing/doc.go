// Package signing decides what a repository may make anybody believe. It
// follows a repository's TUF metadata (theupdateframework.io, specification
// 1.0.31) from the digest of its first root, and publishers' and owners' key
// documents from the digests that guests and policies pin. It never touches a
// private key: that is stork/signing/author.
//
// Start with [Open], [Client.Refresh] and [Snapshot.Lookup] (a guest, which
// pins) or [Snapshot.LookupDelegated] (a nest, which trusts the repository
// for what it fetches). docs/trust.md explains the chain and the formats.
//
// The package drives go-tuf's trustedmetadata itself and never its Updater,
// whose GetTargetInfo does not say which role a target came from, lets the
// top-level targets role shadow a publisher, and writes without fsync. Every
// go-tuf call runs under a recover, for what it parses is hostile.
package signing
