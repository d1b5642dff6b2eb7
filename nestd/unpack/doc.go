// Package unpack opens packages in a sandbox. [Run] is the daemon's side: it
// starts a child for one blob, feeds it through a pipe, hashing on the way,
// and takes back the package's record and file list; the child has written
// the content of the n-th file of the list under the name n into one
// directory. [Main] is the child's side: it gives up what it does not need
// and only then looks at the first byte.
//
// What the child says and writes is worth nothing by itself: the caller
// compares record and file list with those that are signed, and the store
// hashes every file. Run vouches for three things only: the blob was the one
// asked for, no more came back than the caller allowed, and every process of
// the child is dead.
package unpack
