// Package repo is Stork's vocabulary: the names, digests, versions,
// capabilities, package records and file lists that every other room speaks
// of, and the paths under which a repository serves them.
//
// Start with [Record] (what a package declares), [FileList] (what it carries)
// and [Digest] (how everything is addressed). Parse functions are strict and
// meant for the edge of the program; inside it, a value of one of these types
// is valid.
//
// The package imports the standard library and, for version comparison only,
// go-rpm-version, which itself needs nothing else.
package repo
