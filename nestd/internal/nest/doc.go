// Package nest is the core of nestd: it follows repositories, prepares
// packages and attaches them to guests, and knows the order in which all that
// becomes durable (docs/ordering.md, rules N1 to N5). Its rooms (state, store,
// fetch, unpack, attach, signing) do not know each other; they meet here.
//
// Start with [Open], then [Nest.Run]; package server puts the methods on the
// wire. What goes wrong is put in the protocol's words by [Explain].
package nest
