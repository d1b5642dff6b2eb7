// Package state is the nest's memory: repositories, guests, layers, who
// refers to what, and the index database, in one SQLite file. Rows change
// nowhere else.
//
// Start with [Open]. Every exported method of [State] is one transaction: it
// is all there, and durable, when the method returns nil, or it is not there
// at all. Methods may be called from several goroutines; writers wait for each
// other.
//
// The package is the only importer of go-sqlite3, and its types do not leave
// it.
package state
