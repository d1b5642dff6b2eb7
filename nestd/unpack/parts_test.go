package unpack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
	"stork/repo/frames"
)

// framed writes contents as frames, one behind the other, and returns the file
// and where they lie.
func framed(t *testing.T, contents ...[]byte) (*os.File, []Part) {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var all []byte
	var parts []Part
	for n, content := range contents {
		part := Part{Index: 10 * n, Size: int64(len(content))}
		for len(content) > 0 {
			plain := content[:min(len(content), frames.MaxFrame)]
			content = content[len(plain):]
			packed := z.EncodeAll(plain, nil)
			part.Frames = append(part.Frames, frames.Frame{Offset: int64(len(all)), Length: int64(len(packed)), Content: int64(len(plain))})
			all = append(all, packed...)
		}
		parts = append(parts, part)
	}
	return spooled(t, all), parts
}

// partsOf reads everything that a child sends.
func partsOf(t *testing.T, ctx context.Context, file *os.File, parts []Part, size int64) (map[int][]byte, error) {
	t.Helper()
	o := options(t, "unpacker")
	o.InstalledSize = size
	p, err := OpenParts(ctx, o, file, repo.Object{}, parts)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	got := map[int][]byte{}
	for {
		index, _, err := p.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return nil, err
		}
		if got[index], err = io.ReadAll(p); err != nil {
			return nil, err
		}
	}
}

// TestParts gets contents of one frame, of several and of none, and one twice.
func TestParts(t *testing.T) {
	t.Parallel()
	contents := [][]byte{[]byte("one"), bytes.Repeat([]byte("stork "), 500_000), nil, bytes.Repeat([]byte{7}, frames.MaxFrame)}
	file, parts := framed(t, contents...)
	again := parts[0]
	again.Index = 77
	got, err := partsOf(t, t.Context(), file, append(parts, again), 1<<23)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range contents {
		if !bytes.Equal(got[10*n], want) {
			t.Errorf("content %d has %d bytes, want %d", n, len(got[10*n]), len(want))
		}
	}
	if string(got[77]) != "one" || len(got) != len(contents)+1 {
		t.Errorf("there are %d contents; the one that comes twice is %q", len(got), got[77])
	}
	if got, err := partsOf(t, t.Context(), file, nil, 0); err != nil || len(got) != 0 {
		t.Errorf("of no parts come %v, %v", got, err)
	}
}

// TestHostileParts ends at what is no frame, or holds more than it should.
func TestHostileParts(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("stork "), 10_000)
	for name, tt := range map[string]struct {
		change func(*frames.Frame)
		size   int64
		text   string
	}{
		"behind the end":     {func(f *frames.Frame) { f.Offset += 1 << 30 }, 1 << 20, "cannot read frame"},
		"over the end":       {func(f *frames.Frame) { f.Length += 10 }, 1 << 20, "cannot read frame"},
		"elsewhere":          {func(f *frames.Frame) { f.Offset++; f.Length-- }, 1 << 20, "cannot decompress frame"},
		"less content":       {func(f *frames.Frame) { f.Content++ }, 1 << 20, "cannot decompress frame"},
		"more content":       {func(f *frames.Frame) { f.Content-- }, 1 << 20, "cannot decompress frame"},
		"much more":          {func(f *frames.Frame) { f.Content = 1 << 40 }, 1 << 20, "out of range"},
		"more than declared": {func(*frames.Frame) {}, 100, "more bytes than the record says"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, parts := framed(t, content)
			tt.change(&parts[0].Frames[0])
			_, err := partsOf(t, t.Context(), file, parts, tt.size)
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
		})
	}
}
