package frames

import (
	"iter"
	"maps"
	"math"

	"stork/repo"
)

const (
	// MinBlob is the size in bytes of a package from which on it has frames:
	// below, to ask for them takes longer than to fetch it.
	MinBlob = 256 << 10

	// MaxFrame is how many bytes of content are in one frame at most: so much
	// of a file is held in memory.
	MaxFrame = 1 << 20

	// slack is by how many bytes a frame may be longer than its content:
	// what can not be compressed gets a few bytes for each 128 KiB.
	slack = 1 << 10
)

// Layout is what the frames file of one package holds.
type Layout struct {
	first  map[repo.Object]int // content → the number of its first frame
	frames int
	size   int64
}

// LayoutOf returns the layout of a package with that file list: every content
// of a regular file once, in the order in which the list has them first, in
// frames of [MaxFrame] bytes, of which the last has what is left. Ghosts have
// no content; empty files need none.
func LayoutOf(list *repo.FileList) *Layout {
	l := &Layout{first: map[repo.Object]int{}}
	for i := range list.Files {
		f := &list.Files[i]
		content := repo.Object{Digest: f.Digest, Size: f.Size}
		if _, again := l.first[content]; again || !has(f) {
			continue
		}
		if f.Size > repo.MaxBlob-l.size { // a sum that nobody could have packaged
			l.size = math.MaxInt64
			break
		}
		l.first[content] = l.frames
		l.frames += framesOf(f.Size)
		l.size += f.Size
	}
	return l
}

// has reports whether a file's content is in frames.
func has(f *repo.File) bool { return f.Type == repo.Regular && !f.Has(repo.Ghost) && f.Size > 0 }

// framesOf is in how many frames a content of that size is.
func framesOf(size int64) int { return int((size + MaxFrame - 1) / MaxFrame) }

// Useful reports whether a repository offers frames of a package at all: it
// is not small, and has more than one content.
func (l *Layout) Useful(blob int64) bool {
	return blob >= MinBlob && len(l.first) > 1 && l.size <= repo.MaxBlob && l.IndexSize() <= MaxIndex
}

// Contents yields every content, in no order.
func (l *Layout) Contents() iter.Seq[repo.Object] { return maps.Keys(l.first) }

// Size is how many bytes all contents have.
func (l *Layout) Size() int64 { return l.size }

// frame returns how many bytes of a content of that size frame n of it has.
func frame(size int64, n int) int64 { return min(size-int64(n)*MaxFrame, MaxFrame) }
