// Package cli is the program nestd: its commands, one in a file, and the
// wiring of the daemon. Start with [Run].
package cli
