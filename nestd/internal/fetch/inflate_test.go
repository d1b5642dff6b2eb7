package fetch

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"stork/repo/delta"
)

// TestInflate decompresses frames in the child, good ones and such as a
// server could make up.
func TestInflate(t *testing.T) {
	t.Parallel()
	f := started(t)
	ctx := context.Background()
	old, text := bytes.Repeat([]byte("what was "), 5000), append(bytes.Repeat([]byte("what was "), 5000), "and is"...)
	frameOf := func(dictionary, text []byte) []byte {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(0, dictionary), zstd.WithWindowSize(1<<20))
		must(t, err)
		return z.EncodeAll(text, nil)
	}
	good := frameOf(old, text)
	got, err := f.Inflate(ctx, good, old, int64(len(text)))
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	pid := f.PID()
	for name, c := range map[string]struct {
		frame, dictionary []byte
		size              int64
		want              string
	}{
		"one byte more":     {good, old, int64(len(text)) - 1, "decompress"},
		"other dictionary":  {good, bytes.ToUpper(old), int64(len(text)), "decompress"},
		"no dictionary":     {good, nil, int64(len(text)), "decompress"},
		"bomb":              {frameOf(nil, make([]byte, 64<<20)), nil, delta.MaxGroup, "decompress"},
		"no frame":          {[]byte("no frame"), nil, 10, "decompress"},
		"empty":             {nil, nil, 10, ""},
		"size out of range": {good, old, 1 << 40, "decompress"},
		"negative size":     {good, old, -1, "decompress"},
		"large dictionary":  {good, make([]byte, delta.MaxGroup+1), 10, "decompress"},
		"large frame":       {make([]byte, delta.MaxSize+1), make([]byte, delta.MaxGroup), 10, "decompress"},
	} {
		got, err := f.Inflate(ctx, c.frame, c.dictionary, c.size)
		if c.want == "" && (err != nil || len(got) > 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if f.PID() != pid {
		t.Error("the child died of it")
	}
}
