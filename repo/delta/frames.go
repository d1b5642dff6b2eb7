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

// maxFiner is how much more finely the newer index may be cut, as a power of
// two.
const maxFiner = 1

// group is the documents of one frame: those of old are its dictionary, those
// of new its content, one behind the other in both.
type group struct {
	numbers  []int         // of the documents in their level
	old, new []repo.Object // perhaps fewer of old
}

// groups says which documents of a level, all tables or all shards, lie
// together in a frame: in order, those that differ, as many as MaxGroup
// allows. Where the new index is cut more finely, every document differs, and
// the dictionary has the old ones that covered the same names. A document that
// does not fit alone is left out. Both sides come to the same answer, so a
// delta does not have to say it, and no reader has to believe it.
func groups(old, new []repo.Object) []group {
	finer := bits.Len(uint(len(new))) - bits.Len(uint(len(old))) // lengths are powers of two
	if finer < 0 || finer > maxFiner || len(old)<<finer != len(new) {
		return nil
	}
	var all []group
	var g group
	var size, total int64
	last := -1 // the number of the last of g.old
	for n := range new {
		from := n >> finer
		was, is := old[from], new[n]
		both := was.Size + is.Size
		if finer == 0 && was == is || was.Size < 0 || is.Size < 0 || both < 0 || both > MaxGroup {
			continue
		}
		add := both
		if from == last {
			add = is.Size
		}
		if size+add > MaxGroup {
			all = append(all, g)
			g, size, last, add = group{}, 0, -1, both
		}
		if from != last {
			g.old, last = append(g.old, was), from
		}
		g.numbers, g.new = append(g.numbers, n), append(g.new, is)
		size += add
		if total += add; total > maxContent {
			return nil
		}
	}
	if len(g.numbers) > 0 {
		all = append(all, g)
	}
	return all
}

// tooFine reports whether an index is cut so much more finely than another one
// that there is no delta: then most of it is new.
func tooFine(old, new int) bool { return new < old || new-old > maxFiner }

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
