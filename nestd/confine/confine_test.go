package confine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a child that looks around and prints what
// it finds.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		if err := children[os.Args[2]](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	childID = 54323
	dirFD   = 3
)

var children = map[string]func() error{
	"look":    lookAround,
	"fetcher": beFetcher,
	"limits":  meetLimits,
	"sleep":   func() error { time.Sleep(time.Hour); return nil },
}

func lookAround() error {
	if err := errors.Join(CloseInherited(dirFD+1), Landlock([]string{"."}, true)); err != nil {
		return err
	}
	fmt.Println("pid", os.Getpid(), "uid", os.Getuid(), "gid", os.Getgid(), "env", len(os.Environ()))
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		n, err := strconv.Atoi(fd.Name())
		if err != nil {
			return err
		}
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 && n > dirFD {
			fmt.Println("inherited", n)
		}
	}
	return checkCapabilities()
}

// beFetcher writes below its directory only, reads, and speaks TCP.
func beFetcher() error {
	if err := errors.Join(unix.Fchdir(dirFD), Landlock([]string{"."}, true)); err != nil {
		return err
	}
	if err := os.WriteFile("inside", []byte("x"), 0o600); err != nil {
		return err
	}
	if os.WriteFile("/tmp/stork-outside", nil, 0o600) == nil {
		return errors.New("wrote outside")
	}
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	return errors.Join(conn.Close(), listener.Close())
}

// meetLimits ends, if all goes well, by running out of memory.
func meetLimits() error {
	if err := SetLimits(Limits{Memory: 256 << 20, FileSize: 100, OpenFiles: 20}); err != nil {
		return err
	}
	if err := unix.Fchdir(dirFD); err != nil {
		return err
	}
	if err := os.WriteFile("large", make([]byte, 101), 0o600); !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("a large file: %w", err)
	}
	var files []*os.File
	for len(files) < 30 {
		f, err := os.Open("/")
		if errors.Is(err, unix.EMFILE) {
			fmt.Println("files are limited")
			return takeMemory()
		}
		files = append(files, f)
	}
	return fmt.Errorf("%d open files", len(files))
}

// takeMemory maps over reservations, as one does who knows that RLIMIT_DATA
// comes too late for that, until there is no more.
func takeMemory() error {
	const size = 64 << 20
	for taken := 0; taken < 16<<30; taken += size {
		at, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0), 0)
		if errno == 0 {
			_, _, errno = unix.Syscall6(unix.SYS_MMAP, at, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED, ^uintptr(0), 0)
		}
		if errno == unix.ENOMEM {
			fmt.Println("memory is limited")
			os.Exit(2)
		}
		if errno != 0 {
			return errno
		}
	}
	return errors.New("16 GiB of memory")
}

// started is a running child of this test binary.
type started struct {
	*Process
	t      *testing.T
	out    string // path
	stderr bytes.Buffer
	dir    string
}

func start(ctx context.Context, t *testing.T, what string) *started {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	s := &started{t: t, dir: filepath.Join(t.TempDir(), "dir"), out: filepath.Join(t.TempDir(), "out")}
	if err := errors.Join(os.Mkdir(s.dir, 0o700), os.Chown(s.dir, childID, childID)); err != nil {
		t.Fatal(err)
	}
	handle, err := os.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	out, err := os.Create(s.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.Process, err = Child{
		Exe: "/proc/self/exe", Args: []string{"child", what}, UID: childID, GID: childID,
		Network: what == "fetcher", Stdout: out, Stderr: &s.stderr, Files: []*os.File{handle}, Env: []string{"A=b"},
	}.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *started) output() string {
	s.t.Helper()
	b, err := os.ReadFile(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// TestChildLooksAround leaks a descriptor on purpose, as a C library would.
func TestChildLooksAround(t *testing.T) {
	leaked, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	p := start(t.Context(), t, "look")
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	if got, want := p.output(), fmt.Sprintf("pid 1 uid %d gid %d env 1\n", childID, childID); got != want {
		t.Errorf("child found %q, want %q", got, want)
	}
}

func TestFetcherRights(t *testing.T) {
	t.Parallel()
	p := start(t.Context(), t, "fetcher")
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	if _, err := os.Stat(filepath.Join(p.dir, "inside")); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	p := start(t.Context(), t, "limits")
	err := p.Wait()
	// The runtime ends with 2 too, if it is the first to find no memory.
	out := strings.TrimSuffix(p.output(), "memory is limited\n")
	if err == nil || p.ExitCode() != 2 || out != "files are limited\n" {
		t.Errorf("%v: %.300s: %s", err, p.stderr.String(), p.output())
	}
}

func TestContextEndsChild(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := start(ctx, t, "sleep")
	if err := unix.Kill(p.PID(), 0); err != nil {
		t.Errorf("not there: %v", err)
	}
	cancel()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the child is alive")
	}
	if p.Wait() == nil || p.ExitCode() != -1 || !strings.Contains(p.Status(), "killed") {
		t.Errorf("ended with %q", p.Status())
	}
	p.Kill() // of a dead one is harmless
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	if _, err := (Child{Exe: "/nowhere/at/all"}).Start(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("start: %v", err)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tests := []struct {
		text string
		id   int
		want bool
	}{
		{"         0          0 4294967295\n", 65534, true},
		{"         0      54321          1\n", 0, true},
		{"         0      54321          1\n", 1, false},
		{"0 100000 65536\n100000 1000 1\n", 100000, true},
		{"0 100000 65536\n100000 1000 1\n", 65536, false},
		{"nonsense\n", 0, false},
		{"", 0, false},
	}
	for i, tt := range tests {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := mapped(path, tt.id); got != tt.want {
			t.Errorf("mapped(%q, %d) = %v, want %v", tt.text, tt.id, got, tt.want)
		}
	}
}
