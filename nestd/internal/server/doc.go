// Package server puts the nest on the wire: HTTP over one unix socket for
// each guest, which tells who asks, and one for the operator. It decodes
// strictly and within bounds, asks package nest, and encodes; it decides
// nothing.
//
// Start with [Open], then [Server.Serve]. The routes are two literal tables
// in routes.go; docs/api.md shows them with curl.
package server
