package attach

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPropagation: a view that is shared with the host is refused, one that
// is shared within the guest is as good as a private one, and what is
// attached there does not come out.
func TestPropagation(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("x")
	a := s.open()
	id := Identity{HostUserNS: true}
	t.Run("within the guest", func(t *testing.T) {
		t.Parallel()
		g := startGuest(t, shared)
		g.sh("mount --make-shared " + g.dir)
		before := mountsOf(t, unix.Getpid(), filepath.Dir(g.dir))
		must(t, a.Attach(context.Background(), g.peer, id, g.host, g.view, []string{layer}))
		g.sh("test -d " + g.view + "/" + layer + "/etc")
		if after := mountsOf(t, unix.Getpid(), filepath.Dir(g.dir)); after != before {
			t.Errorf("%d mounts on the host, were %d", after, before)
		}
		must(t, a.Detach(context.Background(), g.peer, id, g.host, g.view, []string{layer}))
	})
	for name, flag := range map[string]uintptr{"with the host": unix.MS_SHARED, "the host receives": unix.MS_SLAVE} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGuest(t, guestKind{mounts: true, peers: true})
			must(t, unix.Mount("", g.dir, "", flag, ""))
			wantError(t, a.Attach(context.Background(), g.peer, id, g.host, g.view, []string{layer}), ErrNotAttached)
			if left, _ := os.ReadDir(g.host); len(left) != 0 {
				t.Errorf("%d mount points made", len(left))
			}
		})
	}
}
