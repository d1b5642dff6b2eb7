package rpmfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/rpmpack"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/rpmfile"
)

func sample() fixtures.Spec {
	return fixtures.Spec{
		Name: "sample", Version: "1.2", Summary: "A sample",
		Files: []fixtures.File{fixtures.Text("/opt/s/a", strings.Repeat("abc\n", 400)), fixtures.Directory("/opt/s"),
			fixtures.Symlink("/opt/s/l", "a"), fixtures.Program("/usr/bin/s", "#!/bin/sh\n")},
		Requires:   []string{"/bin/sh", "x >= 1"},
		Scriptlets: []repo.Scriptlet{fixtures.Script(repo.Post, "true")},
	}
}

func compressions() []string { return []string{"gzip", "xz", "lzma", "zstd"} }

// TestTruncated: a package that ends early is refused, wherever it ends.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, compression := range compressions() {
		spec := sample()
		spec.Compression = compression
		whole := fixtures.MustRPM(t, spec)
		cuts := []int{0, 1, 95, 96, 97, len(whole) - 1}
		for i := range 16 {
			cuts = append(cuts, len(whole)*i/16)
		}
		for _, n := range cuts {
			_, err := rpmfile.Build(bytes.NewReader(whole[:n]))
			if !errors.Is(err, rpmfile.ErrMalformed) {
				t.Errorf("%s cut to %d of %d bytes: got %v, want it malformed", compression, n, len(whole), err)
			}
		}
	}
}

// TestDamaged: one changed byte anywhere behind the lead and the signature
// header is noticed.
func TestDamaged(t *testing.T) {
	t.Parallel()
	whole := fixtures.MustRPM(t, sample())
	start := bytes.LastIndex(whole, []byte{0x8e, 0xad, 0xe8, 1})
	for i := start; i < len(whole); i += 7 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x41
		if _, err := rpmfile.Build(bytes.NewReader(damaged)); err == nil {
			t.Errorf("byte %d of %d changed, and nobody noticed", i, len(whole))
		}
	}
}

// TestTrailing: bytes behind the payload are no part of a package.
func TestTrailing(t *testing.T) {
	t.Parallel()
	for _, compression := range compressions() {
		spec := sample()
		spec.Compression = compression
		whole := append(fixtures.MustRPM(t, spec), "more"...)
		if _, err := rpmfile.Build(bytes.NewReader(whole)); !errors.Is(err, rpmfile.ErrMalformed) {
			t.Errorf("%s: got %v, want it malformed", compression, err)
		}
	}
}

// TestShortReads: how the stream is cut does not matter.
func TestShortReads(t *testing.T) {
	t.Parallel()
	whole := fixtures.MustRPM(t, sample())
	pkg, err := rpmfile.Build(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := pkg.Record
	for name, r := range map[string]io.Reader{
		"one byte": iotest.OneByteReader(bytes.NewReader(whole)), "half": iotest.HalfReader(bytes.NewReader(whole)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(whole)),
	} {
		got, err := rpmfile.Build(sized{r, int64(len(whole))})
		if err != nil || got.Record.Blob != want.Blob {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// sized is a stream that is said to have some bytes.
type sized struct {
	io.Reader
	size int64
}

func (s sized) Size() int64 { return s.size }

// TestOtherSize: a file that has not as many bytes as was said when it was
// opened has the pieces of another one.
func TestOtherSize(t *testing.T) {
	t.Parallel()
	whole := fixtures.MustRPM(t, sample())
	for _, size := range []int64{-1, 0, int64(len(whole)) - 1, int64(len(whole)) + 1, repo.MinSwarm + 1, repo.MaxBlob} {
		if _, err := rpmfile.Build(sized{bytes.NewReader(whole), size}); !errors.Is(err, rpmfile.ErrMalformed) {
			t.Errorf("%d bytes, said to be %d: got %v, want it malformed", len(whole), size, err)
		}
	}
}

// TestSwarm: a package has a swarm from a certain size on, which is that of its
// bytes.
func TestSwarm(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 200 << 10} {
		whole := fixtures.MustRPM(t, fixtures.Spec{Name: "n", Files: []fixtures.File{fixtures.Noise("/opt/noise", size)}})
		pkg, err := rpmfile.Build(bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		if len(whole) <= repo.MinSwarm {
			if pkg.Info != nil || pkg.Record.Swarm != nil {
				t.Errorf("%d bytes have a swarm", len(whole))
			}
			continue
		}
		pieces := repo.NewPieceHasher(int64(len(whole)))
		pieces.Write(whole)
		want := pieces.Info(repo.DigestOf(whole))
		if !bytes.Equal(pkg.Info.Encode(), want.Encode()) || *pkg.Record.Swarm != *want.Swarm() {
			t.Errorf("%d bytes have the swarm %+v, want %+v", len(whole), pkg.Record.Swarm, want.Swarm())
		}
	}
}

// TestStreamError: an error of the stream is not the package's fault.
func TestStreamError(t *testing.T) {
	t.Parallel()
	whole := fixtures.MustRPM(t, sample())
	broken := errors.New("broken pipe")
	for _, n := range []int{10, 200, len(whole) / 2, len(whole) - 1} {
		_, err := rpmfile.Build(sized{io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken)), int64(len(whole))})
		if !errors.Is(err, broken) || errors.Is(err, rpmfile.ErrMalformed) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, broken)
		}
	}
}

// TestSinkError: the sink's error ends the walk, and no goroutine is left. It
// counts goroutines, so it does not run beside others.
func TestSinkError(t *testing.T) {
	spec := sample()
	noise := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	spec.Files = append(spec.Files, fixtures.File{Path: "/opt/s/big", Content: noise}, fixtures.Text("/opt/s/after", "x"))
	whole := fixtures.MustRPM(t, spec)
	full := errors.New("disk full")
	before := runtime.NumGoroutine()
	_, err := rpmfile.Walk(bytes.NewReader(whole), func(e rpmfile.Entry, r io.Reader) error {
		if e.Size < 1<<20 {
			return nil
		}
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			return err
		}
		return full
	})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

// TestHostileHeaders: packages that ask for what they should not get.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	tag := func(n int, e rpmpack.IndexEntry) func(*rpmpack.RPM) {
		return func(r *rpmpack.RPM) { r.AddCustomTag(n, e) }
	}
	for name, test := range map[string]struct {
		change func(*rpmpack.RPM)
		want   string
	}{
		"relative path":      {tag(1118, rpmpack.EntryStringSlice([]string{"opt/"})), "absolute"},
		"dots":               {tag(1118, rpmpack.EntryStringSlice([]string{"/opt/../"})), "clean"},
		"path twice":         {tag(1117, rpmpack.EntryStringSlice([]string{"a", "a"})), "twice"},
		"no such directory":  {tag(1116, rpmpack.EntryUint32([]uint32{0, 9})), "no directory"},
		"no UTF-8":           {tag(1117, rpmpack.EntryStringSlice([]string{"a\xff", "b"})), "UTF-8"},
		"columns":            {tag(1030, rpmpack.EntryUint16([]uint16{0o100644})), "values"},
		"socket":             {tag(1030, rpmpack.EntryUint16([]uint16{0o140644, 0o100644})), "mode"},
		"wrong size":         {tag(1028, rpmpack.EntryUint32([]uint32{3, 1})), "bytes"},
		"wrong digest":       {tag(1035, rpmpack.EntryStringSlice([]string{strings.Repeat("0", 64), strings.Repeat("1", 64)})), "damaged"},
		"no digest at all":   {tag(1035, rpmpack.EntryStringSlice([]string{"zz", "zz"})), "no digest"},
		"unknown algorithm":  {tag(5011, rpmpack.EntryUint32([]uint32{99})), "algorithm"},
		"file is missing":    {tag(1117, rpmpack.EntryStringSlice([]string{"a", "c"})), "does not list"},
		"one inode, two":     {tag(1096, rpmpack.EntryUint32([]uint32{5, 5})), "one file by inode"},
		"name is a number":   {tag(1000, rpmpack.EntryUint32([]uint32{5})), "no string"},
		"bad name":           {tag(1000, rpmpack.EntryString("../x")), "package name"},
		"bad version":        {tag(1001, rpmpack.EntryString("1-2")), "version"},
		"bad architecture":   {tag(1022, rpmpack.EntryString("x86/64")), "architecture"},
		"rpm feature":        {tag(1049, rpmpack.EntryStringSlice([]string{"rpmlib(Teleport)"})), "Teleport"},
		"macro expansion":    {tag(5021, rpmpack.EntryUint32([]uint32{1})), "expanded"},
		"bad rich":           {tag(1049, rpmpack.EntryStringSlice([]string{"(a or"})), "rich"},
		"rich provide":       {tag(1047, rpmpack.EntryStringSlice([]string{"(a or b)"})), "capability"},
		"trigger, no script": {tag(1066, rpmpack.EntryStringSlice([]string{"x"})), "tag 1069"},
		"payload format":     {tag(1124, rpmpack.EntryString("drpm")), "drpm"},
		"compressor":         {tag(1125, rpmpack.EntryString("brotli")), "brotli"},
		"user":               {tag(1039, rpmpack.EntryStringSlice([]string{"a:b", "root"})), "belongs"},
		"capability":         {tag(5010, rpmpack.EntryStringSlice([]string{"cap_fly=ep", ""})), "cap_fly"},
		"source package":     {tag(1106, rpmpack.EntryUint32([]uint32{1})), "source package"},
		"payload digest":     {tag(5092, rpmpack.EntryStringSlice([]string{strings.Repeat("0", 64)})), "payload is damaged"},
		"script, no UTF-8":   {tag(1024, rpmpack.EntryString("\xff")), "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rpmfile.Build(bytes.NewReader(packed(t, test.change)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if !errors.Is(err, rpmfile.ErrMalformed) && !errors.Is(err, rpmfile.ErrUnsupported) {
				t.Errorf("%v is of no kind", err)
			}
		})
	}
}

// packed is a package of two files with one thing changed.
func packed(t *testing.T, change func(*rpmpack.RPM)) []byte {
	t.Helper()
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: "p", Version: "1", Release: "1", Arch: "noarch", Epoch: rpmpack.NoEpoch})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		r.AddFile(rpmpack.RPMFile{Name: "/opt/" + name, Body: []byte(name), Mode: 0o100644, Owner: "root", Group: "root"})
	}
	change(r)
	var buf bytes.Buffer
	if err := r.Write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestProseIsCleaned: what people read may be anything; it is made harmless.
func TestProseIsCleaned(t *testing.T) {
	t.Parallel()
	pkg, err := rpmfile.Build(bytes.NewReader(packed(t, func(r *rpmpack.RPM) {
		r.AddCustomTag(1004, rpmpack.EntryString("a\x1b[31mb\xffc\nd"))
	})))
	if err != nil {
		t.Fatal(err)
	}
	if want := "a[31mb\ufffdc d"; pkg.Record.Summary != want {
		t.Errorf("got %q, want %q", pkg.Record.Summary, want)
	}
}

// TestHugeCounts: a header that announces more than it has is refused before
// memory is taken for it. It measures memory, so it does not run beside
// others.
func TestHugeCounts(t *testing.T) {
	for name, intro := range map[string][2]uint32{
		"tags": {0xffffffff, 16}, "store": {1, 0xffffffff}, "both at the limit": {2 << 20, 32 << 20}, "no tags": {0, 16},
	} {
		b := make([]byte, 96+16)
		copy(b, []byte{0xed, 0xab, 0xee, 0xdb, 3})
		copy(b[96:], []byte{0x8e, 0xad, 0xe8, 1})
		binary.BigEndian.PutUint32(b[104:], intro[0])
		binary.BigEndian.PutUint32(b[108:], intro[1])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := rpmfile.Build(bytes.NewReader(b))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, rpmfile.ErrMalformed) {
			t.Errorf("%s: got %v, want it malformed", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s: took %d bytes", name, took)
		}
	}
}

// TestOverlappingValues: entries that share the store could make a reader
// copy it once for each of them.
func TestOverlappingValues(t *testing.T) {
	t.Parallel()
	const tags = 1000
	header := []byte{0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0}
	header = binary.BigEndian.AppendUint32(header, tags)
	header = binary.BigEndian.AppendUint32(header, 1<<20)
	for i := range uint32(tags) {
		for _, n := range []uint32{1000 + i, 7, 0, 1 << 20} {
			header = binary.BigEndian.AppendUint32(header, n)
		}
	}
	header = append(header, make([]byte, 1<<20)...)
	b := make([]byte, 96)
	copy(b, []byte{0xed, 0xab, 0xee, 0xdb, 3})
	_, err := rpmfile.Build(bytes.NewReader(append(b, header...)))
	if err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("got %v, want the overlap refused", err)
	}
}

// TestRandomAccess reads entries without their content, and part of it.
func TestRandomAccess(t *testing.T) {
	t.Parallel()
	r, err := rpmfile.NewReader(bytes.NewReader(fixtures.MustRPM(t, sample())))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, ok := r.Declared()
	if !ok || len(list.Files) != 4 {
		t.Fatalf("%d files before the payload (%v), want 4", len(list.Files), ok)
	}
	seen := 0
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Path != list.Files[e.Index].Path {
			t.Errorf("entry %+v has the index of %s", e, list.Files[e.Index].Path)
		}
		if _, err := r.Read(make([]byte, 3)); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		seen++
	}
	if seen != 4 {
		t.Errorf("%d entries, want 4", seen)
	}
	if _, err := r.Finish(); err != nil {
		t.Error(err)
	}
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
