package frames

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
)

var update = flag.Bool("update", false, "write testdata")

// file is a buffer that is written like a file.
type file struct{ b []byte }

// WriteAt implements [io.WriterAt].
func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p) - len(f.b); need > 0 {
		f.b = append(f.b, make([]byte, need)...)
	}
	return copy(f.b[at:], p), nil
}

func noise(seed byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte{seed})).Read(b)
	return b
}

// listOf makes a file list of contents at the paths /0, /1 and so on.
func listOf(contents ...[]byte) *repo.FileList {
	list := &repo.FileList{Format: repo.FileListFormat}
	for n, content := range contents {
		list.Files = append(list.Files, repo.File{
			Path: "/" + string(rune('0'+n)), Type: repo.Regular, Digest: repo.DigestOf(content), Size: int64(len(content)),
		})
	}
	return list
}

// made returns the frames file of contents, which come in the reverse order.
func made(t testing.TB, l *Layout, contents ...[]byte) []byte {
	t.Helper()
	var f file
	m, err := NewMaker(l, &f)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for n := range contents {
		content := contents[len(contents)-1-n]
		if err := m.Add(repo.ObjectOf(content), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Finish(); err != nil {
		t.Fatal(err)
	}
	return f.b
}

// contentOf reads a content out of a frames file.
func contentOf(b []byte, x *Index, content repo.Object) ([]byte, error) {
	z, err := NewInflater()
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var whole []byte
	for _, f := range x.Frames(content) {
		plain, err := z.Inflate(b[min(f.Offset, int64(len(b))):min(f.End(), int64(len(b)))], f.Content)
		if err != nil {
			return nil, err
		}
		whole = append(whole, plain...)
	}
	return whole, nil
}

// TestRoundTrip gives every content back, of whatever size and in whatever
// order they came, and has each once.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	contents := [][]byte{
		[]byte("one"), noise(1, MaxFrame), nil, noise(2, MaxFrame+1), []byte("one"), bytes.Repeat([]byte("zero"), MaxFrame),
		noise(3, 3*MaxFrame-1),
	}
	list := listOf(contents...)
	list.Files = append(list.Files, repo.File{Path: "/g", Type: repo.Regular, Flags: []repo.FileFlag{repo.Ghost}, Size: 10})
	l := LayoutOf(list)
	b := made(t, l, contents...)
	x, err := l.Decode(b[:l.IndexSize()])
	if err != nil {
		t.Fatal(err)
	}
	frames, taken := 0, l.IndexSize()
	for content := range l.Contents() {
		for _, f := range x.Frames(content) {
			frames++
			taken += f.Length
		}
	}
	if frames != 1+1+2+4+3 || taken != int64(len(b)) {
		t.Errorf("%d frames take %d of %d bytes", frames, taken, len(b))
	}
	for _, want := range contents {
		got, err := contentOf(b, x, repo.ObjectOf(want))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("a content of %d bytes comes back as %d, %v", len(want), len(got), err)
		}
	}
	if got := x.Frames(repo.ObjectOf([]byte("another"))); got != nil {
		t.Errorf("what is not there has the frames %v", got)
	}
}

// TestMissing does not finish a file that lacks something.
func TestMissing(t *testing.T) {
	t.Parallel()
	m, err := NewMaker(LayoutOf(listOf([]byte("one"), []byte("two"))), &file{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Add(repo.ObjectOf([]byte("one")), strings.NewReader("on")); err == nil {
		t.Error("half a content was taken")
	}
	if err := m.Finish(); err == nil {
		t.Error("a file without its contents was finished")
	}
}

// TestUseful says which packages have frames.
func TestUseful(t *testing.T) {
	t.Parallel()
	huge := listOf([]byte("one"), []byte("two"))
	huge.Files[0].Size, huge.Files[1].Size = math.MaxInt64, math.MaxInt64
	for name, tt := range map[string]struct {
		list *repo.FileList
		blob int64
		want bool
	}{
		"two contents":         {listOf([]byte("one"), []byte("two")), MinBlob, true},
		"a small package":      {listOf([]byte("one"), []byte("two")), MinBlob - 1, false},
		"one content":          {listOf([]byte("one"), []byte("one")), MinBlob, false},
		"none":                 {listOf(), MinBlob, false},
		"sizes that overflow":  {huge, MinBlob, false},
		"more than is allowed": {&repo.FileList{Files: []repo.File{huge.Files[0], huge.Files[1]}}, math.MaxInt64, false},
	} {
		if got := LayoutOf(tt.list).Useful(tt.blob); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestHostileFrames gets no more out of a frame than was asked for.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	z, err := NewInflater()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	compress := func(b []byte, options ...zstd.EOption) []byte {
		w, err := zstd.NewWriter(nil, options...)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return w.EncodeAll(b, nil)
	}
	bomb := compress(make([]byte, 64<<20), zstd.WithWindowSize(zstd.MaxWindowSize))
	var unsized bytes.Buffer
	w, err := zstd.NewWriter(&unsized, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := compress([]byte("content"))
	for name, tt := range map[string]struct {
		frame []byte
		size  int64
	}{
		"bomb": {bomb, MaxFrame}, "bomb without a size": {unsized.Bytes(), MaxFrame}, "longer": {good, 6}, "shorter": {good, 8},
		"nothing": {nil, 7}, "cut": {good[:len(good)-5], 7}, "two": {append(bytes.Clone(good), good...), 7}, "text": {[]byte("content"), 7},
		"no size": {good, 0}, "negative": {good, -1}, "too much": {good, MaxFrame + 1},
	} {
		if b, err := z.Inflate(tt.frame, tt.size); err == nil {
			t.Errorf("%s: %d bytes came out", name, len(b))
		}
	}
	if b, err := z.Inflate(good, 7); err != nil || string(b) != "content" {
		t.Errorf("after that, a good one: %q, %v", b, err)
	}
}

// TestGolden reads the example that the documentation names. What a newer
// compressor makes may differ.
func TestGolden(t *testing.T) {
	t.Parallel()
	contents := [][]byte{[]byte("#!/bin/sh\necho hello\n"), bytes.Repeat([]byte("stork "), 1000), []byte("#!/bin/sh\necho hello\n")}
	l := LayoutOf(listOf(contents...))
	const path = "testdata/frames"
	if *update {
		if err := os.WriteFile(path, made(t, l, contents...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := l.Decode(b[:l.IndexSize()])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range contents {
		if got, err := contentOf(b, x, repo.ObjectOf(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

// FuzzDecode reads whatever claims to be the index of three contents: what it
// accepts can be fetched and allocated without harm.
func FuzzDecode(f *testing.F) {
	contents := [][]byte{[]byte("one"), noise(1, 2*MaxFrame+5), []byte("three")}
	l := LayoutOf(listOf(contents...))
	good := made(f, l, contents...)
	f.Add(good[:l.IndexSize()])
	f.Add(make([]byte, l.IndexSize()))
	f.Add([]byte(header))
	f.Add(append([]byte(header), bytes.Repeat([]byte{0xff}, place*l.frames)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := l.Decode(b)
		if err != nil {
			return
		}
		for content := range l.Contents() {
			total := int64(0)
			for _, frame := range x.Frames(content) {
				if frame.Length <= 0 || frame.Length > MaxFrame+slack || frame.Offset < l.IndexSize() || frame.End() > 1<<41 {
					t.Fatalf("accepted %+v", frame)
				}
				total += frame.Content
			}
			if total != content.Size {
				t.Fatalf("the frames of %d bytes have %d", content.Size, total)
			}
		}
	})
}
