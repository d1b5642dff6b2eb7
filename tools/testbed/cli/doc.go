// Package cli is the command line of stork-testbed. Start with [Run].
package cli
