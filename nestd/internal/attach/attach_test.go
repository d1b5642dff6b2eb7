package attach

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	own    = guestKind{users: true, mounts: true}
	shared = guestKind{mounts: true}
)

func attach(t *testing.T, a *Attacher, g *testGuest, want Identity, layers ...string) {
	t.Helper()
	must(t, a.Attach(context.Background(), g.peer, want, g.host, g.view, layers))
}

func TestGuestSeesLayer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, kind := range map[string]guestKind{"own user namespace": own, "host's": shared} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			layer := s.layer("a")
			a, g := s.open(), startGuest(t, kind)
			want := Identity{HostUserNS: !kind.users}
			attach(t, a, g, want, layer)
			at := filepath.Join(g.view, layer)
			if got := g.sh("cat " + at + "/link"); got != "content of a" {
				t.Errorf("guest reads %q", got)
			}
			if got := g.sh("stat -c '%u %g %a' " + at + "/etc/secret; cat " + at + "/etc/secret"); got != "0 0 600\nroot only" {
				t.Errorf("owner, mode and content are %q, want the guest's root", got)
			}
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(s.path(layer), "file"), &st))
			if got := g.sh("stat -c %d:%i " + at + "/file"); got != strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10) {
				t.Errorf("guest sees inode %s, store has %d:%d", got, st.Dev, st.Ino)
			}
			// Again: what is there is left.
			before := mountsOf(t, g.cmd.Process.Pid, g.view)
			attach(t, a, g, want, layer, layer)
			if after := mountsOf(t, g.cmd.Process.Pid, g.view); after != before || after != 1 {
				t.Errorf("%d mounts after the second call, %d before, want 1", after, before)
			}
			must(t, a.Detach(context.Background(), g.peer, want, g.host, g.view, []string{layer}))
			if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != 0 {
				t.Errorf("%d mounts after detach", n)
			}
			if left, _ := os.ReadDir(g.host); len(left) != 0 {
				t.Errorf("%d mount points left", len(left))
			}
			// Detaching what is not there is no error.
			must(t, a.Detach(context.Background(), g.peer, want, g.host, g.view, []string{layer}))
		})
	}
}

// TestMadeAnew: what was removed from the store while a guest had it mounted,
// and made again, is mounted in its place.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a, g := s.open(), startGuest(t, own)
	attach(t, a, g, Identity{}, layer)
	must(t, os.RemoveAll(s.path(layer)))
	if again := s.layer("a"); again != layer {
		t.Fatalf("layer %s, want %s", again, layer)
	}
	attach(t, a, g, Identity{}, layer)
	if got := g.sh("cat " + filepath.Join(g.view, layer, "file")); got != "content of a" {
		t.Errorf("guest reads %q", got)
	}
	if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != 1 {
		t.Errorf("%d mounts, want 1", n)
	}
}

// TestStoreStaysWritable shows that the nest's own namespace is left alone:
// layers appear, also to guests, after Open.
func TestStoreStaysWritable(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	a, g := s.open(), startGuest(t, own)
	if n := mountsOf(t, os.Getpid(), s.dir); n != 0 {
		t.Errorf("%d mounts in the nest's namespace", n)
	}
	late := s.layer("late")
	attach(t, a, g, Identity{}, late)
	if got := g.sh("cat " + filepath.Join(g.view, late, "file")); got != "content of late" {
		t.Errorf("guest reads %q", got)
	}
}

// TestLockedNamespaceHoldsNothingElse: a host's file system must not stay
// busy because a nest runs.
func TestLockedNamespaceHoldsNothingElse(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	a := s.open()
	var mounts []byte
	done := make(chan error, 1)
	a.workers.do(context.Background(), new(atomic.Int64), func() error {
		entries, err := os.ReadDir("/")
		for _, e := range entries {
			mounts = append(mounts, e.Name()...)
		}
		return err
	}, done)
	must(t, <-done)
	if len(mounts) != 0 {
		t.Errorf("root of the locked namespace has %q, want the empty layers folder", mounts)
	}
}

func TestSetuidAndCapabilities(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, tool := range []string{"setcap", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			skipOrFail(t, "needs "+tool)
		}
	}
	s := newStore(t)
	layer := s.layer("privileged")
	s.program(layer, "id", 0o4755)
	capable := s.program(layer, "head", 0o755)
	if out, err := exec.Command("setcap", "cap_dac_read_search+ep", capable).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v: %s", err, out)
	}
	a, g := s.open(), startGuest(t, own)
	attach(t, a, g, Identity{}, layer)
	at := filepath.Join(g.view, layer)
	as := "setpriv --reuid 1000 --regid 1000 --clear-groups "
	if got := g.sh(as + at + "/id"); !strings.Contains(got, "euid=0(") {
		t.Errorf("setuid program runs as %q", got)
	}
	if got := g.sh(as + at + "/head -c 9 " + at + "/etc/secret"); got != "root only" {
		t.Errorf("program with a capability reads %q", got)
	}
}

func TestManyLayers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layers := make([]string, 400)
	for i := range layers {
		layers[i] = s.layer(strconv.Itoa(i))
	}
	a, g := s.open(), startGuest(t, own)
	begin := time.Now()
	attach(t, a, g, Identity{}, layers...)
	t.Logf("400 layers in %v", time.Since(begin))
	if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != len(layers) {
		t.Errorf("%d mounts, want %d", n, len(layers))
	}
	must(t, a.Detach(context.Background(), g.peer, Identity{}, g.host, g.view, layers))
	if left, _ := os.ReadDir(g.host); len(left) != 0 {
		t.Errorf("%d mount points left", len(left))
	}
}

// TestAllOrNothing: one layer that is not there, and nothing is attached.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	there := s.layer("there")
	missing := strings.Repeat("0", 64)
	a, g := s.open(), startGuest(t, own)
	err := a.Attach(context.Background(), g.peer, Identity{}, g.host, g.view, []string{there, missing})
	wantError(t, err, ErrNoLayer)
	if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != 0 {
		t.Errorf("%d mounts after a failure", n)
	}
	// A mount point that can not be used fails in the middle of the moves.
	blocked := s.layer("blocked")
	must(t, os.WriteFile(filepath.Join(g.host, blocked), nil, 0o644))
	if err := a.Attach(context.Background(), g.peer, Identity{}, g.host, g.view, []string{there, blocked}); err == nil {
		t.Error("attached to a file")
	}
	if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != 0 {
		t.Errorf("%d mounts after a failure", n)
	}
}

// TestGuestDies kills guests while layers are attached to them.
func TestGuestDies(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layers := make([]string, 100)
	for i := range layers {
		layers[i] = s.layer(strconv.Itoa(i))
	}
	a := s.open()
	for i := range 8 {
		g := startGuest(t, own)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(i) * 700 * time.Microsecond)
			g.kill()
		}()
		err := a.Attach(context.Background(), g.peer, Identity{}, g.host, g.view, layers)
		<-killed
		if err != nil {
			wantError(t, err, ErrNotAttached)
		}
		wantError(t, a.Attach(context.Background(), g.peer, Identity{}, g.host, g.view, layers), ErrNotAttached)
		must(t, a.Detach(context.Background(), g.peer, Identity{}, g.host, g.view, layers))
		if left, _ := os.ReadDir(g.host); len(left) != 0 {
			t.Errorf("%d mount points left", len(left))
		}
	}
	if n := mountsOf(t, os.Getpid(), filepath.Dir(s.dir)); n != 0 {
		t.Errorf("%d mounts leaked into the nest's namespace", n)
	}
	waitFor(t, "layers to be free", func() bool { return os.RemoveAll(s.dir) == nil })
}

func TestPeerGone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	g := startGuest(t, own)
	g.kill()
	_, err := g.peer.pid()
	wantError(t, err, ErrNotAttached)
	wantError(t, g.peer.alive(), ErrNotAttached)
}

// TestThreadsStayClean: between calls no thread stands in a guest, and the
// first one, which /proc/self shows, is where it was.
func TestThreadsStayClean(t *testing.T) {
	t.Parallel()
	needRoot(t)
	before, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	s := newStore(t)
	layer := s.layer("x")
	a, g := s.open(), startGuest(t, own)
	for range 20 {
		attach(t, a, g, Identity{}, layer)
		must(t, a.Detach(context.Background(), g.peer, Identity{}, g.host, g.view, []string{layer}))
	}
	guestNS, err := os.Readlink("/proc/" + strconv.Itoa(g.cmd.Process.Pid) + "/ns/mnt")
	must(t, err)
	waitFor(t, "threads to leave the guest", func() bool {
		tasks, err := os.ReadDir("/proc/self/task")
		must(t, err)
		for _, task := range tasks {
			now, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/mnt")
			if err == nil && now == guestNS {
				return false
			}
		}
		return true
	})
	after, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	if after != before {
		t.Errorf("the process is in %s, was in %s", after, before)
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("x")
	a, g := s.open(), startGuest(t, own)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, a.Attach(ctx, g.peer, Identity{}, g.host, g.view, []string{layer}), context.Canceled)
	attach(t, a, g, Identity{}, layer) // the lock was given back
}

func TestPeerOfDeadProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(t, err)
	defer l.Close()
	client, err := net.Dial("unix", path)
	must(t, err)
	defer client.Close()
	conn, err := l.AcceptUnix()
	must(t, err)
	defer conn.Close()
	p, err := PeerOf(conn)
	must(t, err)
	pid, err := p.pid()
	must(t, err)
	if pid != os.Getpid() {
		t.Errorf("peer is %d, want %d", pid, os.Getpid())
	}
	must(t, p.Close())
}
