package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stork/repo"
	"stork/repo/index"
)

func inflateHere(_ context.Context, frame, dictionary []byte, size int64) ([]byte, error) {
	return Inflate(frame, dictionary, size)
}

// entry is like one of a distribution: mostly text that others have too, and
// a digest that nobody has.
func entry(n int, version string) index.Entry {
	name := fmt.Sprintf("package-%05d", n)
	return index.Entry{
		Name: repo.Name(name), Version: version, Release: "1", Arch: "x86_64", Summary: "A package that does what " + name + " does",
		Record: repo.ObjectOf([]byte(name + version)), BlobSize: 1000 + int64(n), InstalledSize: 2000, Paths: []string{"/usr/bin/" + name},
		Requires: []string{fmt.Sprintf("libpackage-%05d.so.1()(64bit)", n/2), "libc.so.6()(64bit)", "/bin/sh"},
	}
}

func entries(from, count int) []index.Entry {
	var all []index.Entry
	for n := range count {
		all = append(all, entry(from+n, "1.0"))
	}
	return all
}

// indexes are an index and what it becomes, with the documents of both.
func indexes(t testing.TB, first, second []index.Entry) (old, new *index.Tree, docs index.Documents) {
	t.Helper()
	ctx := context.Background()
	docs = index.Documents{}
	tree, empty, err := index.New("alice", repo.DigestOf([]byte("first root")))
	maps.Copy(docs, empty)
	for _, step := range [][]index.Entry{first, second} {
		var more index.Documents
		if err == nil {
			old = tree
			tree, more, err = tree.Extend(ctx, step)
		}
		maps.Copy(docs, more)
	}
	if err != nil {
		t.Fatal(err)
	}
	return old, tree, docs
}

func made(t testing.TB, old, new *index.Tree, docs index.Documents) []byte {
	t.Helper()
	b, err := Make(context.Background(), docs, old, new)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read gets everything out of a delta, as a nest does.
func read(b []byte, old *index.Tree, docs index.Documents, object repo.Object) (index.Documents, error) {
	ctx := context.Background()
	r, err := Open(b, old, docs, inflateHere)
	if err != nil {
		return nil, err
	}
	got := index.Documents{}
	text, err := r.Root(ctx, object)
	if err != nil {
		return got, err
	}
	got[object.Digest] = text
	root, err := index.DecodeRoot(text)
	if err != nil {
		return got, err
	}
	tables, err := r.Tables(ctx, root)
	maps.Copy(got, tables)
	if err != nil {
		return got, err
	}
	both := maps.Clone(docs)
	maps.Copy(both, got)
	tree, err := index.Open(ctx, both, object)
	if err != nil {
		return got, err
	}
	err = r.Shards(ctx, tree, func(n int, text []byte) error {
		got[tree.Shards()[n].Digest] = text
		return nil
	})
	return got, errors.Join(err, r.End())
}

// documentsOf are all documents of an index.
func documentsOf(tree *index.Tree, docs index.Documents) index.Documents {
	all := index.Documents{tree.Object.Digest: docs[tree.Object.Digest]}
	for _, list := range [][]repo.Object{tree.Root.Tables, tree.Shards()} {
		for _, o := range list {
			all[o.Digest] = docs[o.Digest]
		}
	}
	return all
}

// TestRound makes deltas between indexes of many sizes, and reads them with
// nothing but the older index.
func TestRound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, second int }{{0, 1}, {1, 0}, {3, 10}, {200, 1}, {3000, 200}, {5000, 3000}, {16, 1}, {30, 10}, {60, 10}, {2000, 100}, {4090, 10}} {
		t.Run(fmt.Sprintf("%d+%d", c.first, c.second), func(t *testing.T) {
			t.Parallel()
			old, new, docs := indexes(t, entries(0, c.first), entries(c.first, c.second))
			b := made(t, old, new, docs)
			if again := made(t, old, new, docs); !bytes.Equal(b, again) {
				t.Error("the same delta is made of other bytes")
			}
			before := documentsOf(old, docs)
			got, err := read(b, old, before, new.Object)
			if err != nil {
				t.Fatal(err)
			}
			for d, text := range documentsOf(new, docs) {
				if before[d] == nil && !bytes.Equal(got[d], text) {
					t.Errorf("document %s did not come", d.Short())
				}
			}
		})
	}
}

// TestExample reads the delta that docs/formats.md names.
func TestExample(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/delta")
	if err != nil {
		t.Fatal(err)
	}
	old, new, docs := indexes(t, entries(0, 3), entries(3, 1))
	got, err := read(b, old, documentsOf(old, docs), new.Object)
	if err != nil || len(got) != 3 {
		t.Errorf("%d documents, %v", len(got), err)
	}
}

// TestSmall holds the delta to its purpose.
func TestSmall(t *testing.T) {
	t.Parallel()
	old, new, docs := indexes(t, entries(0, 60000), entries(60000, 100))
	b := made(t, old, new, docs)
	t.Logf("100 packages among 60 000: %d bytes", len(b))
	if len(b) > 40_000 {
		t.Errorf("%d bytes", len(b))
	}
	old, new, docs = indexes(t, entries(0, 4000), entries(4000, 100))
	if b := made(t, old, new, docs); old.Root.Bits == new.Root.Bits || len(b) > 60_000 {
		t.Errorf("where there are twice as many shards: %d bytes", len(b))
	} else {
		t.Logf("where there are twice as many shards: %d bytes", len(b))
	}
	old, new, docs = indexes(t, entries(0, 60000), entries(60000, 1))
	if b := made(t, old, new, docs); len(b) > 4000 {
		t.Errorf("one package takes %d bytes", len(b))
	}
}

func TestNoDelta(t *testing.T) {
	t.Parallel()
	old, new, docs := indexes(t, entries(0, 16), entries(16, 17))
	if _, err := Make(t.Context(), docs, old, new); !errors.Is(err, ErrNone) {
		t.Errorf("between 1 shard and 4: %v", err)
	}
	if _, err := Make(t.Context(), docs, new, old); !errors.Is(err, ErrNone) {
		t.Errorf("between 4 shards and 1: %v", err)
	}
}

// TestHostile changes deltas in every way that a server could. No document
// comes that is not the one asked for.
func TestHostile(t *testing.T) {
	t.Parallel()
	old, new, docs := indexes(t, entries(0, 900), entries(900, 50))
	other, _, otherDocs := indexes(t, entries(5, 900), nil)
	good := made(t, old, new, docs)
	before := documentsOf(old, docs)
	frames, err := cut(good)
	if err != nil {
		t.Fatal(err)
	}
	join := func(frames ...[]byte) []byte {
		b := []byte(header)
		for _, f := range frames {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
		}
		return b
	}
	bomb, err := deflate(nil, make([]byte, MaxGroup))
	if err != nil {
		t.Fatal(err)
	}
	small, err := deflate(nil, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		delta []byte
		want  string
	}{
		"empty":        {nil, "does not begin"},
		"header":       {[]byte(header), "too early"},
		"version":      {bytes.Replace(good, []byte("1\n"), []byte("2\n"), 1), "does not begin"},
		"half length":  {good[:len(header)+3], "inside a length"},
		"half frame":   {good[:len(good)-1], "inside a frame"},
		"no length":    {append([]byte(header), 0, 0, 0, 0), "inside a frame"},
		"huge length":  {append([]byte(header), 0xff, 0xff, 0xff, 0xff, 1), "inside a frame"},
		"too large":    {append([]byte(header), make([]byte, MaxSize)...), "over"},
		"frame gone":   {join(frames[1:]...), "cannot read delta"},
		"frame more":   {join(append(frames[:len(frames):len(frames)], small)...), "after its end"},
		"frames mixed": {join(frames[1], frames[0], frames[2]), "cannot read delta"},
		"bomb":         {join(bomb), "cannot decompress"},
		"short":        {join(small), "2 bytes where"},
		"no zstd":      {join([]byte("no zstd")), "cannot decompress"},
		"other index":  {made(t, other, other, otherDocs), "cannot read delta"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(c.delta, old, before, new.Object)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			checkAll(t, got)
		})
	}
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		got, _ := read(bad, old, before, new.Object)
		checkAll(t, got)
	}
}

func checkAll(t *testing.T, docs index.Documents) {
	t.Helper()
	for d, text := range docs {
		if repo.DigestOf(text) != d {
			t.Errorf("%d bytes came as %s", len(text), d)
		}
	}
}

// TestMissingOld reads a delta without a document that it builds on.
func TestMissingOld(t *testing.T) {
	t.Parallel()
	old, new, docs := indexes(t, entries(0, 900), entries(900, 50))
	b := made(t, old, new, docs)
	before := documentsOf(old, docs)
	for d := range before {
		some := maps.Clone(before)
		delete(some, d)
		got, err := read(b, old, some, new.Object)
		if d == old.Object.Digest && err == nil {
			t.Error("a delta was read without the root that it goes out from")
		}
		checkAll(t, got)
	}
}

// TestLargeDocuments leaves out of a frame what does not fit.
func TestLargeDocuments(t *testing.T) {
	t.Parallel()
	object := func(n int, size int64) repo.Object {
		return repo.Object{Digest: repo.DigestOf([]byte{byte(n)}), Size: size}
	}
	old := []repo.Object{object(1, MaxGroup-10), object(2, MaxGroup), object(3, 10), object(4, 10), object(5, -1), object(6, 1<<62)}
	new := []repo.Object{object(11, 10), object(12, 1), object(3, 10), object(14, 10), object(15, 1), object(16, 1<<62)}
	got := groups(old, new)
	if len(got) != 2 || fmt.Sprint(got[0].numbers, got[1].numbers) != "[0] [3]" {
		t.Errorf("groups: %+v", got)
	}
	if got := groups(old, new[:2]); got != nil {
		t.Errorf("levels of other lengths: %+v", got)
	}
	finer := groups(old[:2], []repo.Object{object(21, 5), object(22, 5), object(23, 1), object(24, 0)})
	if len(finer) != 2 || fmt.Sprint(finer[0].numbers, finer[1].numbers) != "[0 1] [3]" || len(finer[0].old) != 1 {
		t.Errorf("groups of an index that is cut more finely: %+v", finer)
	}
}

// TestFrameIsAPatch lets zstd itself decompress a frame.
func TestFrameIsAPatch(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("zstd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("needs zstd, and in CI everything is there")
		}
		t.Skip("needs zstd: make deps")
	}
	old, new, docs := indexes(t, entries(0, 900), entries(900, 50))
	frames, err := cut(made(t, old, new, docs))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"old": docs[old.Object.Digest], "frame.zst": frames[0]} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "-q", "-d", "-c", "--patch-from=old", "frame.zst")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, docs[new.Object.Digest]) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func FuzzRead(f *testing.F) {
	old, new, docs := indexes(f, entries(0, 40), entries(40, 5))
	before := documentsOf(old, docs)
	f.Add(made(f, old, new, docs))
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _ := read(b, old, before, new.Object)
		checkAll(t, got)
	})
}
