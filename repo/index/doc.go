// Package index is the publisher's signed list of packages, cut into shards
// so that metadata stays small however many packages there are.
//
// A publisher's role signs one target, the index [Root]. The root lists
// tables by digest, each [Table] lists shards, each [Shard] lists packages. A
// package's shard follows from its name alone, so whoever holds the root's
// digest checks one package by reading three small documents: see
// [Finder]. The tree is a function of its entries: publisher and server
// build the same bytes, and the server compares.
//
// Start with [Open] and [Tree.Extend].
package index
