// Package delta is what is new in an index, for who has an older one: the
// root, and the tables and shards that differ, each compressed with those
// that it replaces as the dictionary, so that what comes to a large index
// costs about what is said of the packages that came.
//
// A delta is a shortcut. It may be missing; what it brings is checked against
// the digests that the signed tree says, and what it does not bring is fetched
// by itself.
//
// Who publishes starts with [Make]. Who reads starts with [Open], and hands it
// the function that decompresses: [Inflate], or somebody unprivileged who
// calls it.
package delta
