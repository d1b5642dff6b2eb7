// Package solve decides which packages to install, upgrade and remove so that
// every requirement holds: a CDCL solver with libsolv's habits. Installed
// packages come first, then the newest; as little as possible changes;
// alternatives are tried in their order; weak dependencies come last.
//
// [Solve] is the entry. It is pure: candidates come lazily from a [Provider],
// in batches, and what the guest has besides Stork's packages from a [System].
// The answer is a [Transaction], or an [*Unsolvable] that says in words which
// requirements exclude each other.
//
// The rules, the order of decisions and the ranking of candidates follow
// libsolv's documentation and test cases; docs/architecture.md says where the
// package stands.
package solve
