// Package cli is the command line of stork-repo, one command in a file, and
// the wiring of the server.
//
// Start with [Run].
package cli
