package attach

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What guests notice of each other because a shared file is one inode.
// docs/threat-model.md says so; if one of these tests fails, it may say less.

// neighbours are two guests with one layer, and where they see its file: by
// the layer, and by an overlay over it.
func neighbours(t *testing.T) (guests [2]*testGuest, plain, overlaid [2]string) {
	t.Helper()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("shared")
	a := s.open()
	for i := range guests {
		g := startGuest(t, own)
		attach(t, a, g, Identity{}, layer)
		dir := filepath.Join(filepath.Dir(g.dir), "own")
		must(t, os.Mkdir(dir, 0o777))
		must(t, os.Chmod(dir, 0o777))
		g.sh("cd " + dir + " && mount -t tmpfs own . && cd " + dir + " && mkdir up work m && mount -t overlay overlay -o userxattr,lowerdir=" +
			filepath.Join(g.view, layer) + ",upperdir=up,workdir=work m")
		guests[i], plain[i], overlaid[i] = g, filepath.Join(g.view, layer, "file"), dir+"/m/file"
	}
	return guests, plain, overlaid
}

func (g *testGuest) can(op, path string) bool {
	g.t.Helper()
	return g.do(guestRequest{Op: op, Arg: path}).Err == ""
}

// TestLease: while fs.leases-enable is on, a guest can have others wait when
// they open a shared file, for as long as fs.lease-break-time says, and again.
// The nest warns of it when it starts.
func TestLease(t *testing.T) {
	t.Parallel()
	guests, plain, overlaid := neighbours(t)
	enabled, err := os.ReadFile(leasesEnable)
	must(t, err)
	on := strings.TrimSpace(string(enabled)) != "0"
	if got := guests[0].can("lease", plain[0]); got != on {
		t.Fatalf("took a lease: %t, with fs.leases-enable %q", got, enabled)
	}
	for _, path := range []string{plain[1], overlaid[1]} {
		if got := guests[1].can("open now", path); got == on {
			t.Errorf("the other guest opens %s at once: %t, with fs.leases-enable %q", path, got, enabled)
		}
	}
	var log bytes.Buffer
	warnOfLeases(leasesEnable, slog.New(slog.NewTextHandler(&log, nil)))
	if warned := strings.Contains(log.String(), "fs.leases-enable=0"); warned != on {
		t.Errorf("warned: %t: %s", warned, &log)
	}
}

func TestWarnOfLeases(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]bool{"1\n": true, "0\n": false} {
		path := filepath.Join(t.TempDir(), "leases-enable")
		must(t, os.WriteFile(path, []byte(content), 0o644))
		var log bytes.Buffer
		warnOfLeases(path, slog.New(slog.NewTextHandler(&log, nil)))
		if got := log.Len() > 0; got != want {
			t.Errorf("%q: warned %t: %s", content, got, &log)
		}
	}
}

// TestLocks: a file that is locked by flock(2) is so for all guests that see
// the layer, and for none that has it by an overlay.
func TestLocks(t *testing.T) {
	t.Parallel()
	guests, plain, overlaid := neighbours(t)
	for _, c := range []struct {
		how   string
		paths [2]string
		free  bool
	}{{"layer", plain, false}, {"overlay", overlaid, true}} {
		if !guests[0].can("flock", c.paths[0]) {
			t.Fatalf("can not lock %s", c.paths[0])
		}
		if got := guests[1].can("flock", c.paths[1]); got != c.free {
			t.Errorf("by %s: the other guest can lock the file: %t, want %t", c.how, got, c.free)
		}
	}
}

// TestWatches: inotify tells a guest when another one opens a shared file,
// also when that one has it by an overlay.
func TestWatches(t *testing.T) {
	t.Parallel()
	guests, plain, overlaid := neighbours(t)
	if !guests[0].can("watch", plain[0]) {
		t.Fatal("can not watch the file")
	}
	for _, path := range []string{overlaid[1], plain[1]} {
		if guests[0].can("seen", "") {
			t.Fatal("saw what has not happened")
		}
		if !guests[1].can("open now", path) {
			t.Fatalf("can not open %s", path)
		}
		if !guests[0].can("seen", "") {
			t.Errorf("another guest's opening of %s is not seen", path)
		}
	}
}

// TestPassedDescriptor: who is given a descriptor of a layer by another guest
// reads what it leads to, and can no more write or mount it than that one.
func TestPassedDescriptor(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := beginSiege(t, own, ways[0])
	dir, err := os.Open(proc(s.arena.Other, "root"+s.arena.OtherView+"/"+s.arena.Hidden))
	must(t, err)
	defer dir.Close()
	s.guest.pass(dir)
	for name, want := range map[string]bool{"read": true, "write": false, "clear": false, "clone": false, "link": false} {
		if resp := s.guest.do(guestRequest{Op: "passed", Arg: name, Arena: s.arena}); (resp.Err == "") != want {
			t.Errorf("%s: %q, want success: %t", name, resp.Err, want)
		}
	}
	s.unharmed("passed descriptor")
}

// withPassed acts on the descriptor that the guest was given.
func withPassed(a *arena, dir int, what string) error {
	switch what {
	case "read":
		return readsSecret(a, dir, "file")
	case "write":
		fd, err := unix.Openat(dir, "file", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return reopen(fd)
	case "clear":
		attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		return unix.MountSetattr(dir, "", unix.AT_EMPTY_PATH, &attr)
	case "clone":
		return closed(unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH))
	case "link":
		return unix.Linkat(dir, "file", dir, "hard", 0)
	}
	return unix.ENOSYS
}
