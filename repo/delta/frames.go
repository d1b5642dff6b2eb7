package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
)

// header begins a delta, and says which version of the format it has.
const header = "stork delta 1\n"

// Bounds, in bytes. What does not fit is fetched otherwise.
const (
	MaxSize    = 4 << 20   // of a delta
	MaxGroup   = 4 << 20   // of the documents of a frame, old and new
	maxContent = 128 << 20 // of all documents of a level, old and new
	maxWindow  = 2 * MaxGroup
)

// group is the documents of one frame: those of old are its dictionary, those
// of new its content, one behind the other in both.
type group struct {
	numbers  []int // of the documents in their level
	old, new []repo.Object
}

// groups says which documents of a level, all tables or all shards, lie
// together in a frame: in order, those that differ, as many as MaxGroup
// allows. A document that does not fit alone is left out. Both sides come to
// the same answer, so a delta does not have to say it, and no reader has to
// believe it.
func groups(old, new []repo.Object) []group {
	if len(old) != len(new) {
		return nil
	}
	var all []group
	var g group
	var size, total int64
	for n := range new {
		both := old[n].Size + new[n].Size
		if old[n] == new[n] || old[n].Size < 0 || new[n].Size < 0 || both < 0 || both > MaxGroup {
			continue
		}
		if total += both; total > maxContent {
			return nil
		}
		if size += both; size > MaxGroup {
			all = append(all, g)
			g, size = group{}, both
		}
		g.numbers = append(g.numbers, n)
		g.old, g.new = append(g.old, old[n]), append(g.new, new[n])
	}
	if len(g.numbers) > 0 {
		all = append(all, g)
	}
	return all
}

func sizeOf(objects []repo.Object) int64 {
	var size int64
	for _, o := range objects {
		size += o.Size
	}
	return size
}

// cut returns the frames of a delta.
func cut(b []byte) ([][]byte, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("it has over %d bytes", MaxSize)
	}
	if len(b) < len(header) || string(b[:len(header)]) != header {
		return nil, errors.New("it does not begin as a delta does")
	}
	var frames [][]byte
	for b = b[len(header):]; len(b) > 0; {
		if len(b) < 4 {
			return nil, errors.New("it ends inside a length")
		}
		length := binary.BigEndian.Uint32(b)
		if b = b[4:]; length == 0 || uint64(length) > uint64(len(b)) {
			return nil, errors.New("it ends inside a frame")
		}
		frames = append(frames, b[:length])
		b = b[length:]
	}
	return frames, nil
}

// smallFrame is where an encoder that remembers more begins to pay: it takes
// ten times as long to set up, which most frames do not take otherwise.
const smallFrame = 64 << 10

// deflate compresses a frame as `zstd --patch-from` does: the dictionary is
// plain content, without a number, and the window is as large as both.
func deflate(dictionary, content []byte) ([]byte, error) {
	both := len(dictionary) + len(content)
	level := zstd.SpeedBetterCompression
	if both < smallFrame {
		level = zstd.SpeedFastest
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(max(zstd.MinWindowSize, 1<<bits.Len(uint(both)))), zstd.WithEncoderDictRaw(0, dictionary))
	if err != nil {
		return nil, err
	}
	frame := z.EncodeAll(content, nil)
	return frame, z.Close()
}

// Inflate decompresses a frame to at most size bytes. Frames come from
// anybody: call it where a decompressor that goes wrong can do no harm.
func Inflate(frame, dictionary []byte, size int64) ([]byte, error) {
	if size < 0 || size > MaxGroup || len(dictionary) > MaxGroup {
		return nil, fmt.Errorf("cannot decompress: over %d bytes", MaxGroup)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderDictRaw(0, dictionary),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	defer z.Close()
	content, err := z.DecodeAll(frame, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	return content, nil
}
