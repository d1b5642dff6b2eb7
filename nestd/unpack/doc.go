// Package unpack opens packages in a sandbox. [Open] is the daemon's side: it
// starts a child for one blob and returns the package's file list, then the
// content of one file after another, as the child sends them through a pipe,
// and at the end the package's record. [Main] is the child's side: it gives
// up every right to files, processes and network, and only then looks at the
// first byte.
//
// What the child says is worth nothing by itself: the caller compares file
// list and record with those that are signed, and the store hashes every
// file. The package vouches for three things only: no more comes than the
// caller allows, [ErrBlob] tells a damaged copy from a bad package (for what
// the caller finds wrong, by [Package.Blame]), and every process of the child
// is dead when Close has returned.
package unpack
