package unpack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
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

// filesDir makes a directory that belongs to the child's user, below one that
// it can not reach.
func filesDir(t testing.TB) string {
	t.Helper()
	above := filepath.Join(t.TempDir(), "closed")
	dir := filepath.Join(above, "files")
	uid, gid := confine.User(childID, childID)
	if err := errors.Join(os.Mkdir(above, 0o700), os.Mkdir(dir, 0o700), os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// build reads a package without a sandbox: what Run must return.
func build(t testing.TB, blob []byte) (*repo.Record, *repo.FileList) {
	t.Helper()
	record, list, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
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

// checkPackage unpacks a package in the sandbox and compares what comes back
// with what its reader says without one.
func checkPackage(t *testing.T, blob []byte) {
	t.Helper()
	o, dir := options(t, "unpacker"), filesDir(t)
	record, list := build(t, blob)
	o.InstalledSize, o.FileListSize = record.InstalledSize, record.FileList.Size
	var last int64
	got, err := Run(t.Context(), o, iotest.HalfReader(bytes.NewReader(blob)), repo.ObjectOf(blob), dir, func(n int64) { last = n })
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Record, want) {
		t.Errorf("record\n%s\nwant\n%s", got.Record, want)
	}
	if repo.DigestOf(got.FileList) != record.FileList.Digest {
		t.Errorf("file list\n%s\nis not the record's", got.FileList)
	}
	if last != int64(len(blob)) {
		t.Errorf("progress ended at %d of %d", last, len(blob))
	}
	checkFiles(t, dir, list)
}

// checkFiles compares the directory with the list: every content is there
// under its number, and nothing else.
func checkFiles(t *testing.T, dir string, list *repo.FileList) {
	t.Helper()
	left := map[string]bool{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		left[entry.Name()] = true
	}
	for i, f := range list.Files {
		if f.Type != repo.Regular || f.LinkTo != "" || f.Has(repo.Ghost) {
			continue
		}
		name := strconv.Itoa(i)
		delete(left, name)
		content := read(t, filepath.Join(dir, name))
		if repo.DigestOf(content) != f.Digest {
			t.Errorf("%s: content of %d bytes is not the list's", f.Path, len(content))
		}
		uid, gid := confine.User(childID, childID)
		var stat unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &stat); err != nil || stat.Mode != unix.S_IFREG|0o600 || int(stat.Uid) != uid || int(stat.Gid) != gid {
			t.Errorf("%s: mode %o, owner %d:%d (%v)", f.Path, stat.Mode, stat.Uid, stat.Gid, err)
		}
	}
	if len(left) != 0 {
		t.Errorf("files that the list does not have: %v", left)
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
	diskError := errors.New("disk error")
	tests := []struct {
		name string
		blob io.Reader
		want repo.Object
		size int64 // InstalledSize
		list int64 // FileListSize
		err  error
		text string
	}{
		{"truncated", bytes.NewReader(blob[:len(blob)-1]), object, record.InstalledSize, 1 << 20, ErrBlob, "bytes instead of"},
		{"empty", bytes.NewReader(nil), object, record.InstalledSize, 1 << 20, ErrBlob, "0 bytes instead of"},
		{"too long", io.MultiReader(bytes.NewReader(blob), strings.NewReader("x")), object, record.InstalledSize, 1 << 20, ErrBlob, "over"},
		{"endless", iotest.TimeoutReader(zeros{}), object, record.InstalledSize, 1 << 20, nil, ""},
		{"wrong header", bytes.NewReader(flip(200)), object, record.InstalledSize, 1 << 20, ErrBlob, "digest is"},
		{"wrong payload", bytes.NewReader(flip(len(blob) - 5)), object, record.InstalledSize, 1 << 20, ErrBlob, "digest is"},
		{"right digest of a wrong header", bytes.NewReader(flip(200)), repo.ObjectOf(flip(200)), record.InstalledSize, 1 << 20, ErrPackage, ""},
		{"right digest of a wrong payload", bytes.NewReader(flip(len(blob) - 5)), repo.ObjectOf(flip(len(blob) - 5)), record.InstalledSize, 1 << 20, ErrPackage, ""},
		{"no package", strings.NewReader("hello"), repo.ObjectOf([]byte("hello")), 0, 1 << 20, ErrPackage, ""},
		{"more than the record says", bytes.NewReader(blob), object, record.InstalledSize - 1, 1 << 20, ErrPackage, "more bytes than the record says"},
		{"longer list than the record says", bytes.NewReader(blob), object, record.InstalledSize, record.FileList.Size - 1, ErrPackage, "at most"},
		{"read error", iotest.ErrReader(diskError), object, record.InstalledSize, 1 << 20, diskError, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := options(t, "unpacker")
			o.InstalledSize, o.FileListSize = tt.size, tt.list
			got, err := Run(t.Context(), o, tt.blob, tt.want, filesDir(t), nil)
			if got != nil || err == nil || tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("result %v, error %v; want %v with %q", got, err, tt.err, tt.text)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	tests := []struct{ how, text string }{
		{"say nothing", "gave no answer"},
		{"crash", "ended early: exit status 2: panic: crash?[31m"},
		{"exit early", "ended early: exit status 3"},
		{"garbage", "unknown answer 72"},
		{"endless record", "at most"},
		{"endless list", "at most"},
		{"too much", "text after the answer"},
		{"cut short", "the answer is cut short"},
		{"escape sequences", "?[2J?all is ? well"},
	}
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			t.Parallel()
			blob := bytes.Repeat([]byte("x"), 1<<20) // more than a pipe holds
			_, err := Run(t.Context(), options(t, "bad", tt.how), bytes.NewReader(blob), repo.ObjectOf(blob), filesDir(t), nil)
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v with %q", err, ErrPackage, tt.text)
			}
		})
	}
}

// TestDamagedBlobOfACrash says that the blob's digest is looked at even if
// the child did not live to see the end.
func TestDamagedBlobOfACrash(t *testing.T) {
	t.Parallel()
	blob := bytes.Repeat([]byte("x"), 1<<20)
	_, err := Run(t.Context(), options(t, "bad", "crash"), bytes.NewReader(blob[1:]), repo.ObjectOf(blob), filesDir(t), nil)
	if !errors.Is(err, ErrBlob) {
		t.Errorf("error %v, want %v", err, ErrBlob)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	blob := bytes.Repeat([]byte("x"), 1<<20)
	_, err := Run(ctx, options(t, "bad", "hang"), bytes.NewReader(blob), repo.ObjectOf(blob), filesDir(t), nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestNothingStays says that a process which the child started is dead when
// Run returns.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	marker := rand.Text() // this test may run twice at once: see TestOneUser
	got, err := Run(t.Context(), options(t, "bad", "leave something behind", marker), bytes.NewReader(nil), repo.ObjectOf(nil), filesDir(t), nil)
	if err != nil || string(got.Record) != "left" {
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
			_, err := Run(t.Context(), o, bytes.NewReader(nil), repo.ObjectOf(nil), filesDir(t), nil)
			if err == nil {
				t.Fatal("the attack worked")
			}
			if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), "held: ") || strings.Contains(err.Error(), "could not even write") {
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
	o, dir := options(b, "unpacker"), filesDir(b)
	for b.Loop() {
		if _, err := Run(b.Context(), o, bytes.NewReader(blob), repo.ObjectOf(blob), dir, nil); err != nil {
			b.Fatal(err)
		}
	}
}
