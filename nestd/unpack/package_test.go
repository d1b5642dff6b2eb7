package unpack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/fixtures"
	"stork/nestd/confine"
	"stork/repo"
	"stork/repo/rpmfile"
)

// childID is whom children run as in tests.
const childID = 54321

// options start this test binary as the child.
func options(t testing.TB, args ...string) Options {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("unpacking needs root, or a user namespace of one's own")
		}
		t.Skip("unpacking needs root, or a user namespace of one's own")
	}
	return Options{Exe: "/proc/self/exe", Args: args, UID: childID, GID: childID, InstalledSize: 1 << 20, FileListSize: repo.MaxFileList}
}

// spooled writes a blob to a file that belongs to the child's user.
func spooled(t testing.TB, blob []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(blob)
	if err := errors.Join(err, f.Chown(confine.User(childID, childID))); err != nil {
		t.Fatal(err)
	}
	return f
}

// unpacked is everything that a child said.
type unpacked struct {
	list, record []byte
	files        map[int][]byte
}

// unpackAll opens a blob and reads it to its end, or to the first error.
func unpackAll(t testing.TB, ctx context.Context, o Options, blob []byte, want repo.Object) (*unpacked, error) {
	t.Helper()
	p, err := Open(ctx, o, spooled(t, blob), want)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	u := &unpacked{list: p.FileList(), files: map[int][]byte{}}
	for {
		index, size, err := p.Next()
		if err == io.EOF {
			u.record = p.Record()
			return u, nil
		}
		if err != nil {
			return nil, err
		}
		if u.files[index], err = io.ReadAll(p); err != nil {
			return nil, err
		}
		if int64(len(u.files[index])) != size {
			t.Errorf("file %d has %d bytes, %d were announced", index, len(u.files[index]), size)
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// build reads a package without a sandbox: what must come through it.
func build(t testing.TB, blob []byte) (*repo.Record, *repo.FileList) {
	t.Helper()
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	return record, list
}

func TestRealPackages(t *testing.T) {
	t.Parallel()
	for _, path := range fixtures.RealRPMs(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			checkPackage(t, read(t, path))
		})
	}
}

func TestMadePackages(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"gzip", "xz", "lzma", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			checkPackage(t, fixtures.MustRPM(t, fixtures.Spec{Name: "app", Compression: compression, Files: []fixtures.File{
				fixtures.Program("/usr/bin/app", "#!/bin/sh\n"), fixtures.Symlink("/usr/bin/link", "app"), fixtures.Directory("/usr/lib/app"),
				fixtures.Text("/usr/lib/app/empty", ""), fixtures.Text("/usr/lib/app/large", strings.Repeat("large ", 1<<17)),
			}}))
		})
	}
}

// TestOldPackage unpacks a package whose header has digests of another kind.
func TestOldPackage(t *testing.T) {
	t.Parallel()
	for _, path := range fixtures.RealRPMs(t) {
		blob := read(t, path)
		reader, err := rpmfile.NewReader(bytes.NewReader(blob))
		if err != nil {
			continue
		}
		_, declared := reader.Declared()
		reader.Close()
		if !declared {
			t.Log(filepath.Base(path))
			checkPackage(t, blob)
			return
		}
	}
	t.Error("there is none among the real packages")
}

// checkPackage unpacks a package in the sandbox and compares what comes back
// with what its reader says without one.
func checkPackage(t *testing.T, blob []byte) {
	t.Helper()
	o := options(t, "unpacker")
	record, list := build(t, blob)
	o.InstalledSize, o.FileListSize = record.InstalledSize, record.FileList.Size
	got, err := unpackAll(t, t.Context(), o, blob, repo.ObjectOf(blob))
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.record, want) {
		t.Errorf("record\n%s\nwant\n%s", got.record, want)
	}
	if repo.DigestOf(got.list) != record.FileList.Digest {
		t.Errorf("file list\n%s\nis not the record's", got.list)
	}
	for i, f := range list.Files {
		if f.Type != repo.Regular || f.LinkTo != "" || f.Has(repo.Ghost) {
			continue
		}
		content, ok := got.files[i]
		if !ok || repo.DigestOf(content) != f.Digest {
			t.Errorf("%s: content of %d bytes is not the list's", f.Path, len(content))
		}
		delete(got.files, i)
	}
	if len(got.files) != 0 {
		t.Errorf("%d files that the list does not have", len(got.files))
	}
}

// TestSkipping says that what is not read of a file does not get in the way
// of the next.
func TestSkipping(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("large ", 1<<17)
	blob := fixtures.MustRPM(t, fixtures.Spec{Name: "app", Files: []fixtures.File{
		fixtures.Text("/opt/1", large), fixtures.Text("/opt/2", "small"), fixtures.Text("/opt/3", large), fixtures.Text("/opt/4", "last")}})
	o := options(t, "unpacker")
	o.InstalledSize = 1 << 22
	p, err := Open(t.Context(), o, spooled(t, blob), repo.ObjectOf(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	some := make([]byte, 5)
	for i, want := range []string{"large", "small", "large", "last"} {
		if _, _, err := p.Next(); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(p, some[:len(want)]); err != nil || string(some[:n]) != want {
			t.Errorf("file %d: %q, %v", i, some[:n], err)
		}
	}
	if _, _, err := p.Next(); err != io.EOF {
		t.Errorf("%v at the end", err)
	}
}

// aPackage returns a package with a file, made here.
func aPackage(t testing.TB) (blob []byte, record *repo.Record) {
	t.Helper()
	blob = fixtures.MustRPM(t, fixtures.Spec{Name: "app", Files: []fixtures.File{fixtures.Program("/usr/bin/app", "#!/bin/sh\necho hello\n")}})
	record, _ = build(t, blob)
	return blob, record
}

func TestHostileBlobs(t *testing.T) {
	t.Parallel()
	blob, record := aPackage(t)
	object := repo.ObjectOf(blob)
	flip := func(i int) []byte {
		b := bytes.Clone(blob)
		b[i] ^= 1
		return b
	}
	tests := []struct {
		name string
		blob []byte
		want repo.Object
		size int64 // InstalledSize
		list int64 // FileListSize
		err  error
		text string
	}{
		{"truncated", blob[:len(blob)-1], object, record.InstalledSize, 1 << 20, ErrBlob, "bytes instead of"},
		{"empty", nil, object, record.InstalledSize, 1 << 20, ErrBlob, "0 bytes instead of"},
		{"too long", append(bytes.Clone(blob), 'x'), object, record.InstalledSize, 1 << 20, ErrBlob, "over"},
		{"wrong header", flip(200), object, record.InstalledSize, 1 << 20, ErrBlob, "digest is"},
		{"wrong payload", flip(len(blob) - 5), object, record.InstalledSize, 1 << 20, ErrBlob, "digest is"},
		{"right digest of a wrong header", flip(200), repo.ObjectOf(flip(200)), record.InstalledSize, 1 << 20, ErrPackage, ""},
		{"right digest of a wrong payload", flip(len(blob) - 5), repo.ObjectOf(flip(len(blob) - 5)), record.InstalledSize, 1 << 20, ErrPackage, ""},
		{"no package", []byte("hello"), repo.ObjectOf([]byte("hello")), 0, 1 << 20, ErrPackage, ""},
		{"more than the record says", blob, object, record.InstalledSize - 1, 1 << 20, ErrPackage, "more bytes than the record says"},
		{"longer list than the record says", blob, object, record.InstalledSize, record.FileList.Size - 1, ErrPackage, "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := options(t, "unpacker")
			o.InstalledSize, o.FileListSize = tt.size, tt.list
			got, err := unpackAll(t, t.Context(), o, tt.blob, tt.want)
			if got != nil || err == nil || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("result %v, error %v; want %v with %q", got, err, tt.err, tt.text)
			}
		})
	}
}

func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	tests := []struct{ how, text string }{
		{"say nothing", "gave no answer"},
		{"crash", "ended early: exit status 2: panic: crash?[31m"},
		{"exit early", "ended early: exit status 3"},
		{"close and hang", "ended early: signal: killed"},
		{"garbage", "out of order: message 72"},
		{"endless list", "at most"},
		{"endless record", "at most"},
		{"endless reason", "at most"},
		{"cut short", "the answer is cut short"},
		{"cut in a file", "the answer is cut short"},
		{"content without a file", "out of order: message 3"},
		{"more content than it said", "out of order"},
		{"empty content", "out of order"},
		{"a file in a file", "out of order: message 2"},
		{"a short file message", "cut short"},
		{"a huge file", "more bytes than the record says"},
		{"a negative file", "more bytes than the record says"},
		{"many files", "more bytes than the record says"},
		{"two lists", "out of order: message 1"},
		{"escape sequences", "?[2J?all is ? well"},
		{"refuse in a file", "the rest is damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			t.Parallel()
			blob := []byte("not looked at")
			_, err := unpackAll(t, t.Context(), options(t, "bad", tt.how), blob, repo.ObjectOf(blob))
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v with %q", err, ErrPackage, tt.text)
			}
		})
	}
}

// TestEndlessListOfALyingRecord says that a record which promises a list of
// any size does not make the daemon allocate it.
func TestEndlessListOfALyingRecord(t *testing.T) {
	t.Parallel()
	o := options(t, "bad", "endless list")
	o.FileListSize = math.MaxInt64
	blob := []byte("not looked at")
	_, err := unpackAll(t, t.Context(), o, blob, repo.ObjectOf(blob))
	if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), "at most 268435456 are allowed") {
		t.Errorf("error %v, want %v with the limit", err, ErrPackage)
	}
}

// TestTimeFor says that many small files get more time than one, and that no
// record makes the sum overflow.
func TestTimeFor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		blob, installed, list int64
		want                  time.Duration
	}{
		{0, 0, 0, time.Minute},
		{1 << 20, 1 << 30, 1 << 10, time.Minute + 1025*time.Second},
		{1 << 20, 0, 32 << 20, time.Minute + 257*time.Second},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64, time.Minute + 7*24*time.Hour},
	}
	for _, tt := range tests {
		if got := timeFor(tt.blob, tt.installed, tt.list); got != tt.want {
			t.Errorf("timeFor(%d, %d, %d) = %v, want %v", tt.blob, tt.installed, tt.list, got, tt.want)
		}
	}
}

// TestDamagedBlobOfACrash says that the blob's digest is looked at when the
// child crashes.
func TestDamagedBlobOfACrash(t *testing.T) {
	t.Parallel()
	blob := bytes.Repeat([]byte("x"), 1<<20)
	_, err := unpackAll(t, t.Context(), options(t, "bad", "crash"), blob[1:], repo.ObjectOf(blob))
	if !errors.Is(err, ErrBlob) {
		t.Errorf("error %v, want %v", err, ErrBlob)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"hang", "hang in a file"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			started := time.Now()
			_, err := unpackAll(t, ctx, options(t, "bad", how), nil, repo.ObjectOf(nil))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
			}
			if took := time.Since(started); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestNothingStays says that a process which the child started is dead when
// Close has returned.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	marker := rand.Text() // this test may run twice at once: see TestOneUser
	got, err := unpackAll(t, t.Context(), options(t, "bad", "leave something behind", marker), nil, repo.ObjectOf(nil))
	if err != nil || string(got.record) != "left" {
		t.Fatalf("result %v, error %v", got, err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		b, err := os.ReadFile(line)
		if err == nil && bytes.Contains(b, []byte(marker)) {
			t.Errorf("%s: %q is alive", line, b)
		}
	}
}

// TestSandbox runs every attack from a child that is confined as the real one
// is. None may work.
func TestSandbox(t *testing.T) {
	t.Parallel()
	for name := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, "attacker", name)
			p, err := Open(t.Context(), o, spooled(t, nil), repo.ObjectOf(nil))
			if err == nil {
				p.Close()
				t.Fatal("the attack worked")
			}
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), "held: ") {
				t.Errorf("the attack was not tried: %v", err)
			}
		})
	}
}

// TestOneUser runs the other tests as a nest without root does: as root of a
// user namespace that has one user.
func TestOneUser(t *testing.T) {
	t.Parallel()
	options(t)
	if uid, _ := confine.User(childID, childID); uid != childID {
		t.Skip("this is it")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.timeout=60s",
		"-test.run=TestMadePackages|TestSandbox|TestNothingStays|TestHostileBlobs")
	const outside = 54322
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: outside, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: outside, Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// BenchmarkChild measures an unpacking of next to nothing: what a child
// costs.
func BenchmarkChild(b *testing.B) {
	blob := fixtures.MustRPM(b, fixtures.Spec{Name: "nothing"})
	o := options(b, "unpacker")
	for b.Loop() {
		if _, err := unpackAll(b, b.Context(), o, blob, repo.ObjectOf(blob)); err != nil {
			b.Fatal(err)
		}
	}
}
