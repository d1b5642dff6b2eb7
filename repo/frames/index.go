package frames

import (
	"encoding/binary"
	"errors"
	"fmt"

	"stork/repo"
)

// header begins a frames file, and is the version of the format.
const header = "stork frames 1\n\x00"

// place is how many bytes the index has for each frame: where it begins, in
// 40 bits, and its length, in 24, big-endian.
const (
	place      = 8
	lengthBits = 24
)

// MaxIndex is the size in bytes that no index exceeds.
const MaxIndex = 16 << 20

// IndexSize is how many bytes at the beginning of the file say where the
// frames lie.
func (l *Layout) IndexSize() int64 { return int64(len(header)) + place*int64(l.frames) }

// Frame is where a frame lies in the file, and what it holds, in bytes.
type Frame struct {
	Offset, Length int64
	Content        int64 // when it is decompressed
}

// End is where the next frame may begin.
func (f Frame) End() int64 { return f.Offset + f.Length }

// Index says where the frames of a layout lie.
type Index struct {
	layout *Layout
	places []byte
}

// Decode reads the first [Layout.IndexSize] bytes of a file. They come from
// anybody: that every frame lies behind the index and is no longer than it
// may be is checked; that it holds what it should is seen when it is
// decompressed and hashed.
func (l *Layout) Decode(b []byte) (*Index, error) {
	if int64(len(b)) != l.IndexSize() {
		return nil, fmt.Errorf("cannot decode index of frames: %d bytes instead of %d", len(b), l.IndexSize())
	}
	if string(b[:len(header)]) != header {
		return nil, errors.New("cannot decode index of frames: it does not begin as one does")
	}
	x := &Index{layout: l, places: b[len(header):]}
	for content := range l.first {
		for n, f := range x.Frames(content) {
			if f.Length == 0 || f.Length > f.Content+slack || f.Offset < l.IndexSize() {
				return nil, fmt.Errorf("cannot decode index of frames: frame %d of %s has %d bytes at %d", n, content.Digest, f.Length, f.Offset)
			}
		}
	}
	return x, nil
}

// Frames returns the frames of a content, in order; none if the layout does
// not have it.
func (x *Index) Frames(content repo.Object) []Frame {
	first, ok := x.layout.first[content]
	if !ok {
		return nil
	}
	frames := make([]Frame, framesOf(content.Size))
	for n := range frames {
		at := binary.BigEndian.Uint64(x.places[place*(first+n):])
		frames[n] = Frame{Offset: int64(at >> lengthBits), Length: int64(at & (1<<lengthBits - 1)), Content: frame(content.Size, n)}
	}
	return frames
}

// put notes where a frame lies.
func put(index []byte, n int, offset, length int64) {
	binary.BigEndian.PutUint64(index[len(header)+place*n:], uint64(offset)<<lengthBits|uint64(length))
}
