package attach

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newUpper makes a directory as the nest does, out of reach of anyone but
// root.
func newUpper(t *testing.T) string {
	t.Helper()
	parent := filepath.Join(t.TempDir(), "guests")
	must(t, os.Mkdir(parent, 0o700))
	dir := filepath.Join(parent, "upper")
	must(t, os.Mkdir(dir, 0o755))
	return dir
}

func attachUpper(t *testing.T, a *Attacher, g *testGuest, want Identity, dir string) string {
	t.Helper()
	must(t, a.AttachUpper(context.Background(), g.peer, want, g.host, g.view, dir, "upper"))
	return filepath.Join(g.view, "upper")
}

func TestUpper(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, kind := range map[string]guestKind{"own user namespace": own, "host's": shared} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, g, dir := newStore(t).open(), startGuest(t, kind), newUpper(t)
			want := Identity{HostUserNS: !kind.users}
			at := attachUpper(t, a, g, want, dir)
			g.sh("echo mine > " + at + "/file && chown 7:8 " + at + "/file && stat -c '%u %g' " + at + " | grep '^0 0$'")
			var st unix.Stat_t
			must(t, unix.Stat(dir+"/file", &st))
			if st.Uid != 7 || st.Gid != 8 {
				t.Errorf("on the host the file is %d:%d's, want the guest's numbers", st.Uid, st.Gid)
			}
			for _, flag := range []string{"nodev", "nosuid"} {
				if options := g.sh("findmnt -no VFS-OPTIONS " + at); !strings.Contains(options, flag) || !strings.HasPrefix(options, "rw") {
					t.Errorf("mounted %s, want rw and %s", options, flag)
				}
			}
			// Again: what is there is left; what the guest has unmounted comes
			// back as it was.
			attachUpper(t, a, g, want, dir)
			if n := mountsOf(t, g.cmd.Process.Pid, g.view); n != 1 {
				t.Errorf("%d mounts, want 1", n)
			}
			g.sh("umount " + at)
			attachUpper(t, a, g, want, dir)
			if got := g.sh("cat " + at + "/file"); got != "mine" {
				t.Errorf("guest reads %q", got)
			}
			if n := mountsOf(t, os.Getpid(), filepath.Dir(dir)); n != 0 {
				t.Errorf("%d mounts in the nest's namespace", n)
			}
		})
	}
}

// TestUpperIsNoWayOut: whatever a guest with its own users does to the mount,
// it makes no devices, gets nobody else's rights, and stays inside.
func TestUpperIsNoWayOut(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a, g, dir := newStore(t).open(), startGuest(t, own), newUpper(t)
	beside := filepath.Join(filepath.Dir(dir), "beside")
	must(t, os.WriteFile(beside, []byte("another guest's"), 0o644))
	at := attachUpper(t, a, g, Identity{}, dir)
	g.sh("mount -o remount,bind,dev,suid " + at + " || true")
	for what, script := range map[string]string{
		"made a block device":            "mknod " + at + "/disk b 8 0",
		"made a character device":        "mknod " + at + "/mem c 1 1",
		"left it by ..":                  "cat " + at + "/../beside",
		"left it by a symlink":           "ln -s " + beside + " " + at + "/link && cat " + at + "/link",
		"made a file of a host's user's": "touch " + at + "/x && chown 70000 " + at + "/x",
		"made a file immutable":          "touch " + at + "/y && chattr +i " + at + "/y",
	} {
		if resp := g.do(guestRequest{Op: "sh", Arg: script}); resp.Err == "" {
			t.Errorf("the guest %s: %s", what, resp.Out)
		}
	}
	// A program with the set-user-ID bit is root's on the host's disk: nobody
	// there may reach it.
	g.sh("cp /bin/true " + at + "/suid && chmod 4755 " + at + "/suid")
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Dir(dir), &st))
	if st.Mode&0o077 != 0 {
		t.Errorf("the directory above has mode %o", st.Mode&0o777)
	}
	// Whiteouts, which overlays need, are allowed.
	g.sh("mknod " + at + "/whiteout c 0 0")
}

// TestUpperOfOverlay: what it is for. The guest's directory is the topmost
// lower, since it may lie on an overlay itself; what is written goes to the
// upper.
func TestUpperOfOverlay(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a, g, dir := s.open(), startGuest(t, own), newUpper(t)
	attach(t, a, g, Identity{}, layer)
	at := attachUpper(t, a, g, Identity{}, dir)

	mnt := filepath.Join(filepath.Dir(g.dir), "mnt")
	must(t, os.Mkdir(mnt, 0o755))
	before := s.fingerprint()
	g.sh("mkdir " + at + "/up " + at + "/work && mount -t overlay overlay " + mnt +
		" -o userxattr,lowerdir=" + filepath.Join(g.view, layer) + ",upperdir=" + at + "/up,workdir=" + at + "/work")
	g.sh("echo changed > " + mnt + "/file && rm " + mnt + "/link && echo new > " + mnt + "/etc/new")
	if got := g.sh("cat " + mnt + "/file " + dir + "/up/file 2>/dev/null; ls " + mnt + " " + mnt + "/etc"); !strings.Contains(got, "changed") || strings.Contains(got, "link") {
		t.Errorf("guest sees %q", got)
	}
	if got, err := os.ReadFile(dir + "/up/file"); err != nil || string(got) != "changed\n" {
		t.Errorf("the upper has %q, %v", got, err)
	}
	if s.fingerprint() != before {
		t.Error("the store has changed")
	}
}

func TestUpperRefusals(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a, dir := newStore(t).open(), newUpper(t)
	ctx := context.Background()
	g := startGuest(t, shared)
	wantError(t, a.AttachUpper(ctx, g.peer, Identity{}, g.host, g.view, dir, "upper"), ErrNotEntitled)
	wantError(t, a.AttachUpper(ctx, g.peer, Identity{HostUserNS: true}, g.host, g.view+"/..", dir, "upper"), ErrNotAttached)
	peer := startGuest(t, guestKind{mounts: true, peers: true})
	wantError(t, a.AttachUpper(ctx, peer.peer, Identity{HostUserNS: true}, peer.host, peer.view, dir, "upper"), ErrNotAttached)
	nest := startGuest(t, guestKind{})
	wantError(t, a.AttachUpper(ctx, nest.peer, Identity{HostUserNS: true}, nest.host, nest.view, dir, "upper"), ErrNotEntitled)
	if left, _ := os.ReadDir(g.host); len(left) != 0 {
		t.Errorf("%d mount points left", len(left))
	}
}

func TestAttachedLayers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if names, err := AttachedLayers(filepath.Join(dir, "absent")); err != nil || len(names) != 0 {
		t.Errorf("got %v, %v", names, err)
	}
	name := strings.Repeat("0123456789abcdef", 4)
	for _, entry := range []string{name, "upper", strings.ToUpper(name), name + "0"} {
		must(t, os.Mkdir(filepath.Join(dir, entry), 0o755))
	}
	if names, err := AttachedLayers(dir); err != nil || len(names) != 1 || names[0] != name {
		t.Errorf("got %v, %v, want %s alone", names, err, name)
	}
}
