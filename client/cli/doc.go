// Package cli is the whole of stork: the commands of a guest (package guest)
// and those of a publisher and an owner (package publisher).
//
// Start with [Run], which is the whole program.
package cli
