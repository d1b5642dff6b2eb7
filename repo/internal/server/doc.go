// Package server is a repository on the network: the static tree, uploads, a
// page for people, counters, and the renewal of what expires.
//
//	GET  /metadata/… /keys/… /data/… /blobs/… /packs/…   the static tree (repo/layout.go), with ranges
//	POST /upload/…                                        see repo/api
//	GET  /announce/…                                      the tracker, for nests: docs/api.md
//	GET  /v1/stats                                        Stats
//	GET  /metrics                                         the same for Prometheus
//	GET  /                                                a page for people
//
// Everything that is read could be served by any other web server or CDN
// from the same directory. The process parses what publishers upload, so it
// runs unprivileged, and it needs the online keys only: with all that it can
// reach, a thief can withhold updates but not make a guest accept anything.
//
// Start with [New] and [Server.Run].
package server
