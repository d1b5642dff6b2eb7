// Package cli holds the commands of stork, one in a file: those of a guest
// (install, remove, …) and those of a publisher (key, repo, publish, trust).
//
// Start with [Run], which is the whole program.
package cli
