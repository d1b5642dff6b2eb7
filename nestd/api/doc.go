// Package api is what a nest and its clients say to each other: routes, wire
// types and error codes, declared once and used by both sides.
//
// The protocol is HTTP/1.1 with JSON over unix sockets: one socket for each
// guest, which tells the nest who asks, and one for the operator. docs/api.md
// shows it with curl.
package api
