// Package tracker tells nests of each other: which of them have a blob, and
// which want it (BEP 3, BEP 7, BEP 23). It answers approved nests only, for
// blobs that the repository has published only, and gives them no address but
// those that nests have announced from.
//
// Everything is in memory, and bounded: after a restart nests announce again.
// A nest has one entry for a swarm, whatever it claims to be, so it can
// neither fill the tracker nor crowd out others.
//
// Start with [New]; a [Tracker] is an [net/http.Handler].
package tracker
