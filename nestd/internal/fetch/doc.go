// Package fetch brings files of repositories to the nest. The daemon's side,
// [Fetcher], opens no IP socket: it starts [Child], the same program in an
// unprivileged, confined process that may write nothing but the spool, and
// asks it over a unix socket. A fetcher that crashes or is taken over costs
// the job it was doing: the daemon believes nothing it says that is not
// checked by digest or signature later.
//
// Start with [Start].
package fetch
