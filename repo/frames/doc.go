// Package frames is about the contents of a package's files, each compressed
// for itself, which a repository offers beside the package: who has most of
// them already fetches the others by their ranges, and not the package. It
// makes ([Maker]) and reads ([Layout.Decode], [Inflater]) what
// docs/formats.md describes.
//
// Nothing in such a file is signed, and nothing need be: which contents a
// package has, and their digests, say its signed file list, and whoever takes
// a content from here compares it with that. So [LayoutOf] says from the list
// alone what must be in the index, and the index only where it lies.
package frames
