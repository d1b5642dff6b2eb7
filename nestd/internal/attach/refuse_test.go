package attach

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

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
