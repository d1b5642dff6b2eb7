package rpmfile

import "stork/repo"

// Entry is one entry of a package's payload.
type Entry struct {
	// Index is the entry's place in the package's sorted file list. For
	// content that hard links share it is the place of the first of their
	// paths, whichever of them the payload carries the content under.
	Index int
	Path  string
	Type  repo.FileType
	Size  int64 // bytes of content that follow
	// Content says that content follows, perhaps 0 bytes of it. It is false
	// for everything but regular files, and for all hard links of a file
	// but one.
	Content bool
}
