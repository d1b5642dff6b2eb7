package frames

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Inflater decompresses frames, which may come from anybody: use one where a
// decompressor that goes wrong can do no harm. It takes a few MiB whatever
// they ask for, and is used by one goroutine.
type Inflater struct {
	z       *zstd.Decoder
	content []byte
}

// NewInflater returns one. Close it.
func NewInflater() (*Inflater, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxFrame),
		zstd.WithDecoderMaxMemory(MaxFrame), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	return &Inflater{z: z, content: make([]byte, MaxFrame)}, nil
}

// Inflate returns what is in a frame, which must be that many bytes. They are
// good until the next call.
func (i *Inflater) Inflate(packed []byte, size int64) ([]byte, error) {
	if size <= 0 || size > MaxFrame {
		return nil, errors.New("cannot decompress frame: its size is out of range")
	}
	content, err := i.z.DecodeAll(packed, i.content[:0:size])
	if err == nil && int64(len(content)) != size {
		err = fmt.Errorf("it has %d bytes instead of %d", len(content), size)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot decompress frame: %w", err)
	}
	return content, nil
}

// Close lets the decompressor's memory go.
func (i *Inflater) Close() { i.z.Close() }
