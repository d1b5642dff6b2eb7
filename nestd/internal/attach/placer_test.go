package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinedArgument is how the test binary tries what a placer must not do.
const confinedArgument = "attach-test-confined"

// confinedMain gives up what a placer gives up, and prints what it can do all
// the same.
func confinedMain() {
	runtime.LockOSThread()
	p := &placer{}
	if err := p.confine(); err != nil {
		fmt.Println(err)
		return
	}
	can := func(what string, err error) {
		if err == nil {
			fmt.Println("can", what)
		}
	}
	var want, got unix.Stat_t
	err := unix.Stat("/etc/passwd", &want)
	for fd := range 64 {
		if unix.Fstat(fd, &got) == nil && got.Ino == want.Ino && got.Dev == want.Dev && err == nil {
			fmt.Println("can use what it was not given", fd)
		}
	}
	can("start programs", exec.Command("/bin/true").Run())
	_, err = net.Listen("tcp", "127.0.0.1:0")
	can("open sockets", err)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	can(fmt.Sprint("open unix sockets ", fd), err)
	can("write files", os.WriteFile(os.Args[2], []byte("more than one byte"), 0o600))
	can("change owners", unix.Chown(os.Args[2], 1, 1))
	can("make devices", unix.Mknod(os.Args[2]+".dev", unix.S_IFCHR, int(unix.Mkdev(1, 3))))
	can("mount by path", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	_, err = unix.Fsopen("tmpfs", 0)
	can("make file systems", err)
	can("make namespaces", unix.Unshare(unix.CLONE_NEWNS))
	can("change its root", unix.Chroot("/"))
	can("trace", unix.PtraceAttach(os.Getppid()))
	fmt.Println("done")
}

func TestPlacerIsConfined(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", confinedArgument, filepath.Join(t.TempDir(), "file"))
	null, err := os.Open("/dev/null")
	must(t, err)
	defer null.Close()
	leaked, err := os.Open("/etc/passwd") // one descriptor more than it is given, by mistake
	must(t, err)
	defer leaked.Close()
	for range placerFirst - 3 {
		cmd.ExtraFiles = append(cmd.ExtraFiles, null)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, leaked)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Errorf("%v: %s", err, out)
	}
}

// holdDirectory is what a guest does to have everybody wait who looks
// something up in one of its directories: one thread reads the directory into
// memory that is not there and that nobody will provide (userfaultfd(2)), with
// the directory's lock held; another wants to change it, and waits for the
// lock; who wants to read from then on waits for that.
func holdDirectory(dir string) error {
	const (
		api      = 0xc018aa3f // UFFDIO_API
		register = 0xc020aa00 // UFFDIO_REGISTER
	)
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return errno
	}
	hello := [3]uint64{0xaa}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, api, uintptr(unsafe.Pointer(&hello))); errno != 0 {
		return errno
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(page)))
	area := [4]uint64{uint64(at), uint64(len(page)), 1}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, register, uintptr(unsafe.Pointer(&area))); errno != 0 {
		return errno
	}
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	go func() { _, _, _ = unix.Syscall(unix.SYS_GETDENTS64, uintptr(d), at, uintptr(len(page))) }()
	time.Sleep(200 * time.Millisecond)
	go func() { _ = unix.Mkdir(filepath.Join(dir, "new"), 0o755) }()
	time.Sleep(200 * time.Millisecond)
	return nil
}

// TestPlaceLocked: a guest that holds the lock of its directory stops one
// placer, which can not even be killed, and nobody else.
func TestPlaceLocked(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	slow, d := placeGuest(t, shared)
	if resp := slow.do(guestRequest{Op: "hold", Arg: d + "/dir"}); resp.Err != "" {
		skipOrFail(t, "needs userfaultfd: "+resp.Err)
	}
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- slow.place(a, shared, Change{Place, d + "/dir/never-seen", layer, "/file"}) }()
	time.Sleep(time.Second)
	select {
	case err := <-done:
		t.Fatalf("the guest's directory is not locked: %v", err)
	default:
	}
	other, e := placeGuest(t, shared)
	for range 5 {
		must(t, other.place(a, shared, Change{Place, e + "/file", layer, "/file"}, Change{Kind: Clear, Path: e + "/other"}))
	}
	wantError(t, <-done, ErrNotAttached)
	if took := time.Since(began); took > 2*placeAnswer {
		t.Errorf("the guest was told after %v", took)
	}
	// Its next call waits for the first one, and starts nothing.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := a.Place(ctx, slow.peer, Identity{HostUserNS: true}, slow.host, slow.view, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next call: %v", err)
	}
	slow.kill() // lets go of the lock
	unlock, err := a.guests.lock(context.Background(), slow.host)
	must(t, err) // the placer has ended
	unlock()
}

// TestPlaceWhileGuestEnds: a guest that ends at any moment is gone, and no
// more: no other process that has its number by then is touched.
func TestPlaceWhileGuestEnds(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	gone := 0
	for i := range 20 {
		g, d := placeGuest(t, own)
		time.AfterFunc(time.Duration(i)*4*time.Millisecond, func() { _ = g.cmd.Process.Kill() })
		for range 100 {
			err := g.place(a, own, Change{Place, d + "/file", layer, "/file"}, Change{Kind: Remove, Path: d + "/file"})
			if err == nil {
				continue
			}
			// Its mounts vanish before its root does.
			if !errors.Is(err, ErrNotAttached) && !errors.Is(err, ErrTarget) {
				t.Fatalf("guest %d: %v", i, err)
			}
			gone++
			break
		}
		if n := mountsOf(t, os.Getpid(), d); n != 0 {
			t.Errorf("%d mounts on the host", n)
		}
	}
	if gone != 20 {
		t.Errorf("%d of 20 guests were found gone", gone)
	}
}

// TestViewLocked: nor does a guest that asks for its view in such a directory
// hold up the nest itself, as the nest could then not be ended.
func TestViewLocked(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	slow, d := placeGuest(t, shared)
	want := Identity{HostUserNS: true}
	// What is not in the kernel's cache yet is found all the same.
	slow.sh("mkdir -p " + d + "/fresh/view && mount --bind " + slow.host + " " + d + "/fresh/view")
	g, err := a.openGuest(slow.peer, want)
	must(t, err)
	defer g.close()
	host, err := openHostView(slow.host)
	must(t, err)
	defer host.Close()
	made, err := inodeOf(int(host.Fd()))
	must(t, err)
	view, err := g.openView(slow.view, made, resolveCached)
	if err != nil {
		t.Fatalf("the usual way to the view takes a process: %v", err)
	}
	must(t, view.Close())
	view, err = a.askForView(g, d+"/fresh/view", made)
	must(t, err)
	if got, err := inodeOf(int(view.Fd())); err != nil || got != made {
		t.Errorf("got %v, %v, want %v", got, err, made)
	}
	must(t, view.Close())
	if _, err := a.askForView(g, d, made); !errors.Is(err, ErrNotAttached) {
		t.Errorf("another directory: %v", err)
	}
	if resp := slow.do(guestRequest{Op: "hold", Arg: d + "/dir"}); resp.Err != "" {
		skipOrFail(t, "needs userfaultfd: "+resp.Err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = a.Attach(ctx, slow.peer, want, slow.host, d+"/dir/never-seen", []string{layer})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a view in a locked directory: %v", err)
	}
	for task, n := range waiting(t, 20) {
		if n == 20 {
			t.Errorf("a thread of the nest waits for the guest: %s", task)
		}
	}
	slow.kill()
	unlock, err := a.guests.lock(context.Background(), slow.host)
	must(t, err)
	unlock()
}

// waiting looks at this process's threads, so often, and returns how often
// each could not have been killed.
func waiting(t *testing.T, times int) map[string]int {
	t.Helper()
	found := map[string]int{}
	for range times {
		tasks, err := filepath.Glob("/proc/self/task/*/stat")
		must(t, err)
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if _, state, ok := strings.Cut(string(stat), ") "); err == nil && ok && state[0] == 'D' {
				found[task]++
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return found
}
