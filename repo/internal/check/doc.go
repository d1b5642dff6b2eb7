// Package check finds what is wrong with a repository's directory: a byte
// that flipped, a file that is missing, a file that belongs to nothing,
// metadata that nobody could follow. It trusts nothing but the digest of the
// first root.
//
// Start with [Run].
package check
