package frames

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
)

// Maker writes a frames file. Contents may come in any order: a package's
// payload has its own, and so nothing has to be kept until it is its turn. It
// is used by one goroutine.
type Maker struct {
	layout *Layout
	out    io.WriterAt
	at     int64
	index  []byte
	done   map[repo.Object]bool
	z      *zstd.Encoder

	content, packed []byte // buffers
}

// NewMaker returns a maker of the file of a layout, which writes to out.
// Close it.
func NewMaker(l *Layout, out io.WriterAt) (*Maker, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(MaxFrame), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, err
	}
	m := &Maker{layout: l, out: out, at: l.IndexSize(), index: make([]byte, l.IndexSize()), done: map[repo.Object]bool{}, z: z}
	copy(m.index, header)
	return m, nil
}

// Add writes the frames of a content, of which r has all bytes or an error.
// What is in the file already, or in no layout, is not read.
func (m *Maker) Add(content repo.Object, r io.Reader) error {
	first, ok := m.layout.first[content]
	if !ok || m.done[content] {
		return nil
	}
	if m.content == nil {
		m.content = make([]byte, MaxFrame)
	}
	for n := range framesOf(content.Size) {
		plain := m.content[:frame(content.Size, n)]
		if _, err := io.ReadFull(r, plain); err != nil {
			return fmt.Errorf("cannot make frames of %s: %w", content.Digest, err)
		}
		m.packed = m.z.EncodeAll(plain, m.packed[:0])
		if _, err := m.out.WriteAt(m.packed, m.at); err != nil {
			return fmt.Errorf("cannot make frames of %s: %w", content.Digest, err)
		}
		put(m.index, first+n, m.at, int64(len(m.packed)))
		m.at += int64(len(m.packed))
	}
	m.done[content] = true
	return nil
}

// Finish writes the index. Every content must have come.
func (m *Maker) Finish() error {
	if len(m.done) != len(m.layout.first) {
		return errors.New("cannot make frames: contents are missing")
	}
	if _, err := m.out.WriteAt(m.index, 0); err != nil {
		return fmt.Errorf("cannot make frames: %w", err)
	}
	return nil
}

// Close lets the compressor's memory go.
func (m *Maker) Close() error { return m.z.Close() }
