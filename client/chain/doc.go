// Package chain follows the chain of trust from what a guest has pinned to the
// policy of its owner and the index roots of the publishers that it names: the
// repository's metadata (TUF), the owner's role, and each publisher's. It is
// the only part of a guest's client that verifies signatures; what it found
// out is a [catalog.Verdict], remembered beside the floors.
//
// Start with [Verify].
package chain
