package transfer

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"stork/repo"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content returns n bytes, the same for the same seed.
func content(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func piecesOf(text []byte, length int) *Pieces {
	p := &Pieces{Length: int64(length)}
	for from := 0; from < len(text); from += length {
		sum := sha1.Sum(text[from:min(from+length, len(text))])
		p.Sums = append(p.Sums, sum[:]...)
	}
	return p
}

func spoolOf(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { must(t, root.Close()) })
	return root
}

func opened(t testing.TB, spool *os.Root, o Order) *Blob {
	t.Helper()
	b, err := openBlob(spool, o)
	must(t, err)
	return b
}

// TestBlobResumes writes ranges in any order, forgets the blob at any moment
// as a process does that is killed, and wants whole blocks back.
func TestBlobResumes(t *testing.T) {
	t.Parallel()
	spool := spoolOf(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		text := content(rapid.IntRange(1, 300<<10).Draw(rt, "size"), rapid.Byte().Draw(rt, "seed"))
		o := Order{Object: repo.ObjectOf(text)}
		if rapid.Bool().Draw(rt, "pieces") {
			o.Pieces = piecesOf(text, 32<<10)
		}
		_ = spool.Remove(o.Object.Digest.Hex())
		b := opened(t, spool, o)
		block := int64(1) << b.journal.shift()
		var written int64
		for b.Stored() < b.Size() {
			from := rapid.IntRange(0, len(text)-1).Draw(rt, "from")
			to := rapid.IntRange(from+1, len(text)).Draw(rt, "to")
			if written++; written > 20 {
				from, to = 0, len(text)
			}
			must(t, b.WriteAt(Source{Method: "m"}, text[from:to], int64(from)))
			if !b.Has(Range{int64(from), int64(to)}) {
				rt.Fatalf("%d to %d is not there", from, to)
			}
			if !rapid.Bool().Draw(rt, "kill") {
				continue
			}
			before, spans := b.Stored(), int64(len(b.have))
			must(t, b.close())
			b = opened(t, spool, o)
			if after := b.Stored(); after > before || before-after > 2*block*spans {
				rt.Fatalf("%d bytes were there, %d are there again, in %d spans", before, after, spans)
			}
		}
		right, err := b.verify(t.Context())
		if err != nil || !right {
			rt.Fatalf("verify: %v, %v", right, err)
		}
		must(t, b.close())
		got, err := spool.ReadFile(o.Object.Digest.Hex())
		if err != nil || !bytes.Equal(got, text) {
			rt.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// TestBlobResumesBadFiles opens what is no spool file of this blob.
func TestBlobResumesBadFiles(t *testing.T) {
	t.Parallel()
	text := content(100<<10, 1)
	o := Order{Object: repo.ObjectOf(text)}
	partial := func() []byte {
		spool := t.TempDir()
		b := opened(t, spoolOf(t, spool), o)
		must(t, b.WriteAt(Source{}, text[:50<<10], 0))
		must(t, b.close())
		got, err := os.ReadFile(filepath.Join(spool, o.Object.Digest.Hex()))
		must(t, err)
		return got
	}()
	edited := func(edit func(b []byte) []byte) []byte { return edit(bytes.Clone(partial)) }
	for name, test := range map[string]struct {
		file []byte
		want int64
	}{
		"partial":       {partial, 50 << 10},
		"short":         {text[:1000], 0},
		"another size":  {edited(func(b []byte) []byte { return append(b, 0) }), 0},
		"other magic":   {edited(func(b []byte) []byte { b[len(text)] ^= 1; return b }), 0},
		"other version": {edited(func(b []byte) []byte { b[len(text)+8] = 2; return b }), 0},
		"other blocks":  {edited(func(b []byte) []byte { b[len(text)+9]++; return b }), 0},
		"whole":         {text, 100 << 10},
		"empty":         {nil, 0},
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, o.Object.Digest.Hex()), test.file, 0o600))
		b := opened(t, spoolOf(t, dir), o)
		if got := b.Stored(); got != test.want {
			t.Errorf("%s: %d bytes are there, want %d", name, got, test.want)
		}
		must(t, b.WriteAt(Source{}, text, 0))
		if right, err := b.verify(t.Context()); !right || err != nil {
			t.Errorf("%s: verify: %v, %v", name, right, err)
		}
		must(t, b.close())
	}
}

// TestBadPieces wants them dropped, also after a restart, and the right source
// banned.
func TestBadPieces(t *testing.T) {
	t.Parallel()
	text := content(200<<10, 1)
	o := Order{Object: repo.ObjectOf(text), Pieces: piecesOf(text, 64<<10)}
	dir := t.TempDir()
	spool := spoolOf(t, dir)
	b := opened(t, spool, o)
	good, bad, mixed := Source{"m", "good"}, Source{"m", "bad"}, Source{"m", "mixed"}
	must(t, b.WriteAt(good, text[:64<<10], 0))
	must(t, b.WriteAt(bad, make([]byte, 64<<10), 64<<10))
	must(t, b.WriteAt(mixed, text[128<<10:150<<10], 128<<10))
	must(t, b.WriteAt(good, make([]byte, 192<<10-150<<10), 150<<10))
	must(t, b.WriteAt(good, text[192<<10:], 192<<10))
	if got := b.Stored(); got != 72<<10 {
		t.Errorf("%d bytes are there, want the first and the last piece", got)
	}
	if b.Banned(good) || !b.Banned(bad) || b.Banned(mixed) {
		t.Errorf("banned: %+v", b.Ledger())
	}
	must(t, b.close())
	path := filepath.Join(dir, o.Object.Digest.Hex())
	file, err := os.ReadFile(path)
	must(t, err)
	file[10] ^= 1 // as after a crash of the host
	must(t, os.WriteFile(path, file, 0o600))
	b = opened(t, spool, o)
	if got := b.Stored(); got != 8<<10 {
		t.Errorf("%d bytes are there again, want the last piece", got)
	}
	must(t, b.WriteAt(good, text, 0))
	if right, err := b.verify(t.Context()); !right || err != nil {
		t.Errorf("verify: %v, %v", right, err)
	}
	must(t, b.close())
}

func TestWrongPieces(t *testing.T) {
	t.Parallel()
	text := content(200<<10, 1)
	for _, p := range []*Pieces{{}, {Length: 64 << 10}, {Length: 64<<10 + 1, Sums: make([]byte, 80)}, {Length: 128 << 10, Sums: make([]byte, 60)}, {Length: -1 << 63}} {
		if b, err := openBlob(spoolOf(t, t.TempDir()), Order{Object: repo.ObjectOf(text), Pieces: p}); err == nil {
			t.Errorf("%+v was taken: %v", p, b)
		}
	}
}

func TestWriteOutside(t *testing.T) {
	t.Parallel()
	b := opened(t, spoolOf(t, t.TempDir()), Order{Object: repo.Object{Size: 10}})
	for _, offset := range []int64{-1, 8, 10, 1 << 62} {
		if err := b.WriteAt(Source{}, make([]byte, 3), offset); !errors.Is(err, ErrMismatch) {
			t.Errorf("at %d: %v", offset, err)
		}
	}
	must(t, b.close())
}

// TestClaims wants nobody to claim what another has, until that one is slow.
func TestClaims(t *testing.T) {
	t.Parallel()
	text := content(4<<20, 1)
	b := opened(t, spoolOf(t, t.TempDir()), Order{Object: repo.ObjectOf(text), Pieces: piecesOf(text, 1<<20)})
	defer b.close()
	ctx := t.Context()
	first, err := b.Claim(ctx, Source{"m", "1"}, 3<<19)
	must(t, err)
	second, err := b.Claim(ctx, Source{"m", "2"}, 1<<30)
	must(t, err)
	if first.Range() != (Range{0, 1 << 20}) || second.Range() != (Range{1 << 20, 4 << 20}) {
		t.Fatalf("claimed %v and %v", first.Range(), second.Range())
	}
	if c, _ := b.claim(Source{"m", "3"}, 1<<20); c != nil {
		t.Fatalf("claimed %v", c.Range())
	}
	if _, err := first.Write(text[:1<<20]); err != nil {
		t.Fatal(err)
	}
	first.Release()
	first.Release()
	if n, err := second.Write(text[1<<20 : 2<<20]); n != 1<<20 || err != nil {
		t.Fatal(n, err)
	}
	// The second becomes slow: as if it had taken an hour, and was busy.
	b.mu.Lock()
	second.begun = time.Now().Add(-time.Hour)
	b.mu.Unlock()
	third, err := b.Claim(ctx, Source{"m", "3"}, 1<<20)
	must(t, err)
	if third.Range() != (Range{3 << 20, 4 << 20}) {
		t.Fatalf("stole %v", third.Range())
	}
	// It stands still: the rest goes too.
	b.mu.Lock()
	second.last = time.Now().Add(-time.Hour)
	b.mu.Unlock()
	fourth, err := b.Claim(ctx, Source{"m", "4"}, 1<<20)
	must(t, err)
	if fourth.Range() != (Range{2 << 20, 3 << 20}) {
		t.Fatalf("stole %v", fourth.Range())
	}
	if n, err := second.Write(text[2<<20:]); n != 0 || !errors.Is(err, ErrTaken) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	for c, from := range map[*Claim]int{third: 3 << 20, fourth: 2 << 20} {
		if _, err := c.Write(text[from : from+1<<20]); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := b.Claim(ctx, Source{"m", "5"}, 1); c != nil || err != nil {
		t.Fatalf("of a whole blob %v, %v", c, err)
	}
	if right, err := b.verify(ctx); !right || err != nil {
		t.Errorf("verify: %v, %v", right, err)
	}
}

// FuzzSpoolFile opens whatever lies in the spool under the blob's name, and
// wants the blob all the same.
func FuzzSpoolFile(f *testing.F) {
	text := content(3000, 1)
	o := Order{Object: repo.ObjectOf(text)}
	blank := newJournal(nil, int64(len(text)))
	f.Add([]byte{})
	f.Add(text)
	f.Add(append(append(bytes.Clone(text), blank.header()...), blank.bits...))
	f.Add(append(append(bytes.Clone(text), blank.header()...), 0xff))
	f.Add(append(append(make([]byte, len(text)), blank.header()...), 0x3f))
	f.Fuzz(func(t *testing.T, left []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, o.Object.Digest.Hex()), left, 0o600))
		b := opened(t, spoolOf(t, dir), o)
		defer b.close()
		if b.Stored() > b.Size() {
			t.Fatalf("%d bytes of %d are there", b.Stored(), b.Size())
		}
		for range 2 { // what was left may be wrong
			must(t, b.WriteAt(Source{Method: "m"}, text, 0))
			right, err := b.verify(t.Context())
			must(t, err)
			if right {
				got, err := os.ReadFile(filepath.Join(dir, o.Object.Digest.Hex()))
				if err != nil || !bytes.Equal(got, text) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				return
			}
		}
		t.Fatal("the blob is damaged")
	})
}

// TestScatter: claims of a scattered order are single pieces all over the
// blob, none that others have while such come, and all of it in the end.
func TestScatter(t *testing.T) {
	t.Parallel()
	const length, count = 16 << 10, 64
	text := content(length*count-5, 1)
	o := Order{Object: repo.ObjectOf(text), Pieces: piecesOf(text, length), Scatter: true}
	b := opened(t, spoolOf(t, t.TempDir()), o)
	b.Around(func(i int) bool { return i%2 == 0 }, true)
	inOrder, last := 0, int64(-1)
	for range count / 2 {
		c, whole := b.claim(Source{Method: "web"}, 1<<20)
		if c == nil || whole {
			t.Fatalf("no claim, whole: %v", whole)
		}
		r := c.Range()
		if r.From%length != 0 || r.Len() > length || r.From/length%2 == 0 {
			t.Errorf("claimed %+v", r)
		}
		if r.From > last {
			inOrder++
		}
		last = r.From
		_, err := c.Write(text[r.From:r.To])
		must(t, err)
		c.Release()
	}
	if inOrder == count/2 {
		t.Error("pieces are claimed from the first to the last")
	}
	if c, _ := b.claim(Source{Method: "web"}, 1<<20); c != nil {
		t.Errorf("what is about to come from others is claimed: %+v", c.Range())
	}
	b.moved = b.moved.Add(-2 * tardy) // nothing comes
	for {
		c, whole := b.claim(Source{Method: "web"}, 1<<20)
		if whole {
			break
		}
		r := c.Range()
		_, err := c.Write(text[r.From:r.To])
		must(t, err)
		c.Release()
	}
	must(t, b.close())
}
