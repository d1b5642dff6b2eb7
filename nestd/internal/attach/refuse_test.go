package attach

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attempts are what a guest's root tries on an attached layer, $V. $T is an
// empty directory. Each must fail.
var attempts = []string{
	"echo x > $V/file",
	"echo x >> $V/file",
	": > $V/new",
	"mkdir $V/new",
	"rm -f $V/file && ! test -e $V/file",
	"mv $V/file $V/moved",
	"truncate -s 0 $V/file",
	"touch $V/file",
	"chmod 777 $V/file",
	"chown 1:1 $V/file",
	"ln $V/file $V/hard",
	"ln $V/file $T/hard",
	"ln -s x $V/soft",
	"chattr +i $V/file",
	"chattr +a $V/etc",
	"setfattr -n user.x -v y $V/file",
	"setfattr -n trusted.x -v y $V/file",
	"mknod $V/null c 1 3",
	"mount -o remount,rw $V && : > $V/new",
	"mount -o remount,bind,rw $V && : > $V/new",
	"mount -o remount,bind,dev $V && : > $V/new",
	"mount --bind $V $T && mount -o remount,bind,rw $T && : > $T/new",
	"mount --rbind $V $T; mount -o remount,bind,rw $T && : > $T/new",
	"mount --make-shared $V; mount -o remount,bind,rw $V && : > $V/new",
	"mount --move $V $T && mount -o remount,bind,rw $T && : > $T/new",
	"unshare -m sh -c 'mount -o remount,bind,rw $V && : > $V/new'",
	"unshare -Urm sh -c 'mount -o remount,bind,rw $V && : > $V/new'",
	"unshare -Urm sh -c 'umount $V; : > $V/new'",
	"mount -t overlay overlay -o lowerdir=/usr/share,upperdir=$V/up,workdir=$V/work $T && : > $T/new",
	"cd $V && umount -l $V && : > ./new",
	"umount $V; : > $V/new",
}

// needLock are attempts that a user namespace of its own stops on any mount.
var needLock = []string{"unshare -U", "remount,bind,dev", "mount --move"}

// TestAttemptsCanWork makes the same attempts on a directory that is open to
// them, so that none fails below for a reason of its own.
func TestAttemptsCanWork(t *testing.T) {
	t.Parallel()
	needRoot(t)
	g := startGuest(t, shared)
	for i, script := range attempts {
		if slices.ContainsFunc(needLock, func(s string) bool { return strings.Contains(script, s) }) {
			continue
		}
		base := filepath.Join(filepath.Dir(g.dir), "open"+itoa(i))
		for _, dir := range []string{"v/etc", "v/up", "v/work", "t", "f"} {
			must(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(base, "v", "file"), []byte("x"), 0o644))
		resp := g.do(guestRequest{Op: "sh", Arg: "V=" + base + "/v T=" + base + "/t; export V T\n" + script})
		if resp.Err != "" && !strings.Contains(script, "umount") && !strings.Contains(script, "remount") {
			t.Errorf("guest could not %s: %s", script, resp.Out)
		}
		g.sh("chattr -i -a " + base + "/v/file " + base + "/v/etc; umount -l " + base + "/t 2>/dev/null; true")
	}
}

// TestPlainReadOnlyIsNot shows what the lock is for: the same remounts clear
// the flag of a mount that is only read-only.
func TestPlainReadOnlyIsNot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	g := startGuest(t, shared)
	dir := filepath.Join(filepath.Dir(g.dir), "plain")
	must(t, os.Mkdir(dir, 0o755))
	g.sh("mount --bind " + dir + " " + dir + " && mount -o remount,bind,ro " + dir)
	if resp := g.do(guestRequest{Op: "sh", Arg: ": > " + dir + "/new"}); resp.Err == "" {
		t.Error("wrote to a read-only mount")
	}
	g.sh("mount -o remount,bind,rw " + dir + " && : > " + dir + "/new")
}

func TestGuestRootCanNotWrite(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, kind := range map[string]guestKind{"own user namespace": own, "host's": shared} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			layer := s.layer("a")
			before := s.fingerprint()
			a, g := s.open(), startGuest(t, kind)
			want := Identity{HostUserNS: !kind.users}
			at := filepath.Join(g.view, layer)
			tries := attempts
			if kind.users {
				tries = append([]string{"nsenter -t " + itoa(os.Getpid()) + " -m true", "ls " + s.dir,
					"cat " + filepath.Join(s.path(layer), "etc", "secret")}, tries...)
			}
			for i, script := range tries {
				attach(t, a, g, want, layer)
				scratch := filepath.Join(filepath.Dir(g.dir), "scratch"+itoa(i))
				must(t, os.Mkdir(scratch, 0o777))
				resp := g.do(guestRequest{Op: "sh", Arg: "V=" + at + " T=" + scratch + "; export V T\n" + script})
				if resp.Err == "" {
					t.Errorf("guest could %s: %s", script, resp.Out)
				}
				g.sh("umount -l " + scratch + " 2>/dev/null; umount -l " + at + " 2>/dev/null; true")
			}
			attach(t, a, g, want, layer)
			for _, flag := range []uint64{unix.MOUNT_ATTR_RDONLY, unix.MOUNT_ATTR_NODEV, unix.MOUNT_ATTR_IDMAP} {
				if resp := g.do(guestRequest{Op: "setattr", Arg: at, Attr: flag}); resp.Err == "" {
					t.Errorf("guest could clear mount attribute %#x", flag)
				}
			}
			if after := s.fingerprint(); after != before {
				t.Error("the store has changed")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	before := s.fingerprint()
	a := s.open()
	cases := []struct {
		name   string
		kind   guestKind
		id     Identity
		script string // run in the guest first
		view   func(g *testGuest) string
		want   error
	}{
		{name: "nest's own mount namespace", kind: guestKind{}, want: ErrNotEntitled},
		{name: "own mount namespace, entitled to the host's users", kind: guestKind{}, id: Identity{HostUserNS: true}, want: ErrNotEntitled},
		{name: "host's users unregistered", kind: shared, want: ErrNotEntitled},
		{name: "no such path", kind: own, view: func(*testGuest) string { return "/nonexistent" }, want: ErrNotAttached},
		{name: "empty path", kind: own, view: func(*testGuest) string { return "" }, want: ErrNotAttached},
		{name: "another directory", kind: own, view: func(*testGuest) string { return "/etc" }, want: ErrNotAttached},
		{name: "the directory above", kind: own, view: func(g *testGuest) string { return g.dir }, want: ErrNotAttached},
		{name: "not a directory", kind: own, view: func(g *testGuest) string { return g.dir + "/nest.sock" }, want: ErrNotAttached},
		{name: "symlink to the view", kind: own, script: "ln -s view $D/link", view: func(g *testGuest) string { return filepath.Join(filepath.Dir(g.dir), "open", "link") }, want: ErrNotAttached},
		{name: "magic link", kind: own, view: func(*testGuest) string { return "/proc/self/root" }, want: ErrNotAttached},
		{name: "tmpfs over the view", kind: own, script: "mount -t tmpfs x $R/view", want: ErrNotAttached},
		{name: "another layer's mount over the view", kind: own, script: "mount --bind /etc $R/view", want: ErrNotAttached},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := startGuest(t, c.kind)
			open := filepath.Join(filepath.Dir(g.dir), "open")
			must(t, os.Mkdir(open, 0o777))
			must(t, os.Chmod(open, 0o777))
			if c.script != "" {
				g.sh("D=" + open + " R=" + g.dir + "\n" + c.script)
			}
			view := g.view
			if c.view != nil {
				view = c.view(g)
			}
			mounts := mountsOf(t, g.cmd.Process.Pid, "/")
			wantError(t, a.Attach(context.Background(), g.peer, c.id, g.host, view, []string{layer}), c.want)
			wantError(t, a.Detach(context.Background(), g.peer, c.id, g.host, view, []string{layer}), c.want)
			if after := mountsOf(t, g.cmd.Process.Pid, "/"); after != mounts {
				t.Errorf("%d mounts in the guest, were %d", after, mounts)
			}
			if left, _ := os.ReadDir(g.host); len(left) != 0 {
				t.Errorf("%d mount points made", len(left))
			}
		})
	}
	if after := s.fingerprint(); after != before {
		t.Error("the store has changed")
	}
}

// TestLayerNames: what is no digest never reaches the file system.
func TestLayerNames(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("x")
	a, g := s.open(), startGuest(t, own)
	for _, name := range []string{"", ".", "..", "../../etc", "a/b", layer[:63], layer + "0",
		"ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789"} {
		if err := a.Attach(context.Background(), g.peer, Identity{}, g.host, g.view, []string{name}); err == nil {
			t.Errorf("attached %q", name)
		}
	}
}
