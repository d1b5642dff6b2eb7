package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

func targets(p Placed) []string {
	var list []string
	for _, m := range p.Mounts {
		name := m.Target
		if m.Dir {
			name += "/"
		}
		list = append(list, name)
	}
	return list
}

// TestFolding: what of a package becomes one mount, and what does not.
func TestFolding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files []repo.File
		want  []string
	}{
		{"fresh tree", []repo.File{file("/opt/x/a", "a"), file("/opt/x/y/b", "b")}, []string{"/opt/x/"}},
		{"existing directory", []repo.File{file("/usr/lib/a", "a")}, []string{"/usr/lib/a"}},
		{"below etc", []repo.File{file("/etc/x/a", "a"), file("/etc/x/b", "b")}, []string{"/etc/x/a", "/etc/x/b"}},
		{"config inside", []repo.File{file("/opt/x/c", "c", repo.Config), file("/opt/x/a", "a"), file("/opt/x/y/b", "b")},
			[]string{"/opt/x/a", "/opt/x/y/"}},
		{"ghost inside", []repo.File{file("/opt/x/y/g", "", repo.Ghost), file("/opt/x/y/b", "b"), file("/opt/x/z/c", "c")},
			[]string{"/opt/x/y/b", "/opt/x/z/"}},
		{"directory that others write", []repo.File{with(directory("/opt/x/y"), func(f *repo.File) { f.Mode = 0o1777 }),
			file("/opt/x/y/b", "b"), file("/opt/x/z/c", "c")}, []string{"/opt/x/y/b", "/opt/x/z/"}},
		{"below var", []repo.File{file("/var/x/a", "a")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.change(Bind, []Layer{w.layer("p", tt.files...)})
			if got := targets(w.placed[0]); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if n := len(mountsBelow(t, w.root)); n != len(tt.want) {
				t.Errorf("%d mounts, want %d", n, len(tt.want))
			}
		})
	}
}

// TestSharedInode: a bound file is the layer's own inode, and can not be
// written to.
func TestSharedInode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layer("p", file("/opt/x/a", "a"), file("/usr/lib/b", "b"))
	w.change(Bind, []Layer{l})
	for _, p := range []string{"/opt/x/a", "/usr/lib/b"} {
		got, err := statAt(unix.AT_FDCWD, filepath.Join(w.root, p))
		w.must(err)
		want, err := statAt(unix.AT_FDCWD, filepath.Join(l.View, p))
		w.must(err)
		if !got.same(want) {
			t.Errorf("%s is another inode", p)
		}
		if err := os.WriteFile(filepath.Join(w.root, p), nil, 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing %s: %v, want %v", p, err, unix.EROFS)
		}
	}
}

// TestUpgradeWithoutGap: paths that both versions have are never missing.
func TestUpgradeWithoutGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	build := func(v string) Layer {
		return w.layer("p-"+v, file("/opt/x/f", v), file("/usr/lib/f", v), symlink("/usr/lib/l", "f"+v), file("/etc/f", v, repo.Config))
	}
	versions := []Layer{build("1"), build("2")}
	w.change(Bind, versions[:1])
	ctx, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	var rounds int
	watcher.Go(func() {
		for ctx.Err() == nil {
			rounds++
			for _, p := range []string{"opt/x/f", "usr/lib/f", "usr/lib/l", "etc/f"} {
				st, err := os.Lstat(filepath.Join(w.root, p))
				if err != nil {
					t.Errorf("missing: %v", err)
				} else if st.Size() == 0 {
					t.Errorf("empty: %s", p)
				}
			}
		}
	})
	for i := range 20 {
		w.change(Bind, versions[(i+1)%2:(i+1)%2+1], versions[i%2])
	}
	stop()
	watcher.Wait()
	t.Logf("looked %d times", rounds)
	if n := len(mountsBelow(t, w.root)); n != 2 {
		t.Errorf("%d mounts, want 2", n)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		own      string // a file of the guest
		first    []repo.File
		second   []repo.File
		path     string
		owner    string
		together bool
	}{
		{name: "the guest's file", own: "usr/lib/f", second: []repo.File{file("/usr/lib/f", "f")}, path: "/usr/lib/f", owner: theGuest},
		{name: "the guest's file where a directory goes", own: "opt/f", second: []repo.File{file("/opt/f/g", "f")}, path: "/opt/f", owner: theGuest},
		{name: "the guest's file where a symlink goes", own: "usr/lib/f", second: []repo.File{symlink("/usr/lib/f", "g")}, path: "/usr/lib/f", owner: theGuest},
		{name: "the guest's private file", own: "var/lib/f", second: []repo.File{file("/var/lib/f", "f")}, path: "/var/lib/f", owner: theGuest},
		{name: "another package's file", first: []repo.File{file("/usr/lib/f", "1")}, second: []repo.File{file("/usr/lib/f", "2")}, path: "/usr/lib/f", owner: "first"},
		{name: "another package's symlink", first: []repo.File{symlink("/usr/lib/f", "1")}, second: []repo.File{file("/usr/lib/f", "2")}, path: "/usr/lib/f", owner: "first"},
		{name: "a file in a shared directory", first: []repo.File{file("/opt/x/f", "1")}, second: []repo.File{file("/opt/x/f", "2")}, path: "/opt/x/f", owner: "first"},
		{name: "a directory where a file is shared", first: []repo.File{file("/opt/x/f", "1")}, second: []repo.File{file("/opt/x/f/g", "2")}, path: "/opt/x/f", owner: "first"},
		{name: "in one transaction", together: true, first: []repo.File{file("/opt/x/f", "1")}, second: []repo.File{file("/opt/x/f", "2")}, path: "/opt/x/f", owner: "first"},
		{name: "by two names", together: true, first: []repo.File{file("/bin/f", "1")}, second: []repo.File{file("/usr/bin/f", "2")}, path: "/usr/bin/f", owner: "first"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.own != "" {
				w.write(tt.own, "the guest's own")
			}
			second := w.layer("second", tt.second...)
			add := []Layer{second}
			switch {
			case tt.together:
				add = []Layer{w.layer("first", tt.first...), second}
			case tt.first != nil:
				w.change(Bind, []Layer{w.layer("first", tt.first...)})
			}
			before := w.snapshot()
			_, err := w.plan(Bind, add)
			var conflict *ConflictError
			if !errors.As(err, &conflict) {
				t.Fatalf("got %v, want a conflict", err)
			}
			if want := (ConflictError{tt.path, "second", tt.owner}); *conflict != want {
				t.Errorf("got %+v, want %+v", *conflict, want)
			}
			if d := difference(w.snapshot(), before); d != "" {
				t.Errorf("planning changed:\n%s", d)
			}
		})
	}
}

// TestWritableView: a layer that could be written to is not shared.
func TestWritableView(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layer("p", file("/opt/f", "f"))
	w.must(unix.Unmount(l.View, unix.MNT_DETACH))
	if _, err := w.plan(Bind, []Layer{l}); err == nil || !strings.Contains(err.Error(), "can be written to") {
		t.Errorf("got %v", err)
	}
	if _, err := w.plan(Copy, []Layer{l}); err != nil {
		t.Errorf("a copy of it: %v", err)
	}
}

// TestSymlinksStayInside: a guest's symlinks lead nowhere else, neither when
// planning nor when they are swapped before applying.
func TestSymlinksStayInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	outside := filepath.Join(w.dir, "outside")
	w.must(os.MkdirAll(outside, 0o755))
	w.must(os.Symlink(outside, filepath.Join(w.root, "opt/out")))
	w.must(os.Symlink("../../../../../..", filepath.Join(w.root, "opt/up")))
	if _, err := w.plan(Bind, []Layer{w.layer("p", file("/opt/out/f", "f"))}); err == nil {
		t.Error("a symlink to what the guest does not have was followed")
	}
	w.change(Bind, []Layer{w.layer("up", file("/opt/up/usr/lib/f", "f"))})
	if got := targets(w.placed[0]); !slices.Equal(got, []string{"/usr/lib/f"}) {
		t.Errorf("got %q", got)
	}
	for _, m := range []Method{Bind, Copy} {
		w.must(os.MkdirAll(filepath.Join(w.root, "var/swap"), 0o755))
		plan, err := w.plan(m, []Layer{w.layer("swap-"+string(m), file("/var/swap/f", "f"))})
		w.must(err)
		w.must(os.Remove(filepath.Join(w.root, "var/swap")))
		w.must(os.Symlink(outside, filepath.Join(w.root, "var/swap")))
		if _, err := w.tryApply(plan, nil); err == nil {
			t.Error("a swapped symlink was followed")
		}
		w.must(os.Remove(filepath.Join(w.root, "var/swap")))
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) > 0 {
		t.Errorf("outside has %v, %v", list, err)
	}
}

// TestUnknownUser: as rpm does, root gets the file, and it loses set-ID bits.
func TestUnknownUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := with(file("/opt/x/f", "f"), func(f *repo.File) { f.User, f.Mode = "nosuchuser", 0o4755 })
	warnings := w.change(Bind, []Layer{w.layer("p", f)})
	if len(warnings) != 1 || !strings.Contains(warnings[0], "nosuchuser") {
		t.Errorf("warnings %q", warnings)
	}
	if got := w.snapshot()["/opt/x/f"]; got != "100755 0:0 f" {
		t.Errorf("got %q", got)
	}
}

// TestCapability: a private copy keeps its file capabilities.
func TestCapability(t *testing.T) {
	t.Parallel()
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_bind_service+ep
	w := newWorld(t)
	f := with(file("/var/lib/f", "f"), func(f *repo.File) {
		f.Mode, f.Xattrs = 0o755, map[string][]byte{repo.CapabilityXattr: capability}
	})
	w.change(Copy, []Layer{w.layer("p", f)})
	got := make([]byte, 64)
	n, err := unix.Lgetxattr(filepath.Join(w.root, "var/lib/f"), repo.CapabilityXattr, got)
	if err != nil || !slices.Equal(got[:n], capability) {
		t.Errorf("got %v, %v", got[:max(n, 0)], err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layer("p", file("/usr/lib/a", "a"), file("/usr/lib/b", "b"), symlink("/usr/lib/l", "a"),
		file("/etc/c", "c", repo.Config), file("/etc/m", "m", repo.Config), file("/opt/x/f", "f"))
	w.change(Bind, []Layer{l})
	w.must(unix.Unmount(filepath.Join(w.root, "usr/lib/a"), 0))
	w.must(unix.Mount(filepath.Join(w.root, "etc/passwd"), filepath.Join(w.root, "usr/lib/b"), "", unix.MS_BIND, ""))
	w.must(os.Remove(filepath.Join(w.root, "usr/lib/l")))
	w.must(os.Symlink("other", filepath.Join(w.root, "usr/lib/l")))
	w.write("etc/c", "changed")
	w.must(os.Chmod(filepath.Join(w.root, "etc/m"), 0o600))
	got := w.problems()
	want := []string{"changed /usr/lib/l", "unmounted /usr/lib/a", "replaced /usr/lib/b", "changed /etc/c", "metadata /etc/m"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	err := Restore(t.Context(), w.open(nil), w.placed, w.views)
	if err == nil || !strings.Contains(err.Error(), "/usr/lib/b") {
		t.Errorf("got %v, want that something else is mounted on /usr/lib/b", err)
	}
	if got := w.problems(); slices.Contains(got, "unmounted /usr/lib/a") {
		t.Errorf("not brought back: %q", got)
	}
}

// TestTenThousandFiles: a package in a fresh directory is one mount, whatever
// its size, and 20 files in existing directories are quick.
func TestTenThousandFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var big, small []repo.File
	for i := range 10_000 {
		big = append(big, file(fmt.Sprintf("/opt/big/%02d/%d", i%100, i), "content"))
	}
	for i := range 20 {
		small = append(small, file(fmt.Sprintf("/usr/lib/small%d", i), "content"))
	}
	for name, files := range map[string][]repo.File{"big": big, "small": small} {
		l := w.layer(name, files...)
		start := time.Now()
		plan, err := w.plan(Bind, []Layer{l})
		w.must(err)
		planned := time.Since(start)
		w.apply(plan, nil)
		t.Logf("%s: planned in %v, applied in %v", name, planned, time.Since(start)-planned)
		w.commit(plan)
	}
	counts := map[string]int{}
	for _, p := range w.placed {
		counts[w.names[p.ID]] = len(p.Mounts)
	}
	if counts["big"] != 1 || counts["small"] != 20 {
		t.Errorf("mounts: %v", counts)
	}
}
