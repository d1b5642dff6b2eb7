package share

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
)

func overlays() []Method { return []Method{Overlay, nested} }

// TestOverlayConflicts: what the guest itself has is in the way, unless it is
// the same or belongs to a package that goes.
func TestOverlayConflicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		own  string
		file repo.File
		path string // empty: none
	}{
		{"a file", "usr/lib/f", file("/usr/lib/f", "f"), "/usr/lib/f"},
		{"a file where a directory goes", "opt/f", file("/opt/f/g", "f"), "/opt/f"},
		{"a file where a symlink goes", "usr/lib/f", symlink("/usr/lib/f", "g"), "/usr/lib/f"},
		{"a directory where a file goes", "usr/lib/f/g", file("/usr/lib/f", "f"), "/usr/lib/f"},
		{"a private file", "var/lib/f", file("/var/lib/f", "f"), "/var/lib/f"},
		{"by another name", "usr/bin/f", file("/bin/f", "f"), "/usr/bin/f"},
		{"the same", "usr/lib/f", file("/usr/lib/f", "own"), ""},
		{"beside it", "usr/lib/g", file("/usr/lib/f", "f"), ""},
	}
	for _, m := range overlays() {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, %s", m, tt.name), func(t *testing.T) {
				t.Parallel()
				w := newGuest(t, m)
				w.change(m, []Layer{w.layer("first", file("/usr/lib/first", "1"), file("/opt/first", "1"))})
				w.write(tt.own, "own")
				before := w.snapshot()
				plan, err := w.plan(m, []Layer{w.layer("second", tt.file)})
				if d := difference(w.snapshot(), before); d != "" {
					t.Errorf("planning changed:\n%s", d)
				}
				if tt.path == "" {
					w.must(err)
					w.apply(plan, nil)
					w.commit(plan)
					w.change(m, nil, w.all[w.placed[0].ID], w.all[w.placed[1].ID])
					if got := w.read(tt.own); got != "own" {
						t.Errorf("the guest's file has become %q", got)
					}
					return
				}
				var conflict *ConflictError
				if !errors.As(err, &conflict) {
					t.Fatalf("got %v, want a conflict", err)
				}
				if want := (ConflictError{tt.path, "second", theGuest}); *conflict != want {
					t.Errorf("got %+v, want %+v", *conflict, want)
				}
			})
		}
	}
}

// TestAliases: a symlink of the guest's deep in its tree is found by planning,
// and the environment is asked for again.
func TestAliases(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Overlay)
	w.write("usr/share/real/own", "own")
	w.must(os.Symlink("../share/real", filepath.Join(w.root, "usr/lib/link")))
	w.must(os.Symlink("nowhere", filepath.Join(w.root, "usr/lib/dangling")))
	l := w.layer("p", file("/usr/lib/link/f", "f"), file("/usr/lib/link/sub/g", "g"), file("/bin/h", "h"))
	aliases, err := w.open(nil).Aliases()
	if want := map[string]string{"/bin": "/usr/bin"}; err != nil || !maps.Equal(aliases, want) {
		t.Errorf("got %v, %v, want %v", aliases, err, want)
	}
	env, _ := w.environment([]Layer{l}, aliases)
	_, err = MakePlan(t.Context(), w.open(nil), nil, Change{Method: Overlay, Tag: "1", Add: []Layer{l}, Next: env})
	var more *AliasError
	if want := map[string]string{"/usr/lib/link": "/usr/share/real"}; !errors.As(err, &more) || !maps.Equal(more.Aliases, want) {
		t.Errorf("got %v, want that %v is missing", err, want)
	}
	w.change(Overlay, []Layer{l})
	for p, want := range map[string]string{"usr/share/real/f": "f", "usr/lib/link/sub/g": "g", "bin/h": "h", "usr/lib/link/own": "own"} {
		if got := w.read(p); got != want {
			t.Errorf("%s: got %q, want %q", p, got, want)
		}
	}
	if _, err := w.plan(Overlay, []Layer{w.layer("q", file("/usr/lib/dangling/f", "f"))}); err == nil {
		t.Error("a dangling symlink was taken for a directory")
	}
}

// TestEnvironmentRestore: after a restart all comes back, with what has been
// mounted meanwhile.
func TestEnvironmentRestore(t *testing.T) {
	t.Parallel()
	for _, m := range overlays() {
		w := newGuest(t, m)
		w.write("etc/hosts", "own")
		w.change(m, []Layer{everything(w, "1")})
		w.write("etc/app.conf", "edited")
		w.write("usr/lib/app/own", "written by the guest")
		want := w.snapshot()
		for _, dir := range w.env.Roots {
			w.must(unix.Unmount(filepath.Join(w.root, dir), unix.MNT_DETACH))
		}
		found, err := w.env.Check(t.Context(), w.open(nil))
		if w.must(err); len(found) != len(w.env.Roots) || found[0].What != Unmounted {
			t.Errorf("%s: problems %v", m, found)
		}
		w.must(unix.Mount(filepath.Join(w.root, "etc/passwd"), filepath.Join(w.root, "etc/hosts"), "", unix.MS_BIND, ""))
		root := w.open(nil)
		for range 2 {
			w.must(w.env.Restore(t.Context(), root))
			w.must(Restore(t.Context(), root, w.placed, w.views))
		}
		if n := len(w.mounts()); n != len(w.env.Roots)+2 { // the one on /etc/hosts, and that below it
			t.Errorf("%s: %d mounts: %q", m, n, w.mounts())
		}
		if got := w.read("etc/hosts"); got != w.read("etc/passwd") {
			t.Errorf("%s: what was mounted on /etc/hosts has gone: %q", m, got)
		}
		w.must(unix.Unmount(filepath.Join(w.root, "etc/hosts"), unix.MNT_DETACH)) // a child that is being forked elsewhere may hold it
		if d := difference(w.snapshot(), want); d != "" {
			t.Errorf("%s: after restore:\n%s", m, d)
		}
		if found, err := w.env.Check(t.Context(), w.open(nil)); err != nil || len(found) > 0 {
			t.Errorf("%s: problems %v, %v", m, found, err)
		}
	}
}

// TestOverlayFaults fails every step of a first installation into a guest that
// has mounts of its own, and of the removal of all.
func TestOverlayFaults(t *testing.T) {
	t.Parallel()
	for _, m := range overlays() {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", m, after), func(t *testing.T) {
				t.Parallel()
				w := newGuest(t, m)
				w.write("usr/lib/local/f", "below")
				w.must(unix.Mount("tmpfs", filepath.Join(w.root, "usr/lib/local"), "tmpfs", 0, ""))
				w.write("usr/lib/local/f", "in the mount")
				w.must(unix.Mount(filepath.Join(w.root, "etc/passwd"), filepath.Join(w.root, "etc/group"), "", unix.MS_BIND, ""))
				before, mounts := w.snapshot(), len(w.mounts())
				plan, err := w.plan(m, []Layer{everything(w, "1")})
				w.must(err)
				w.eachFault(plan, after, before)
				w.apply(plan, nil)
				w.commit(plan)
				if problems := w.problems(); len(problems) > 0 {
					t.Errorf("problems %q", problems)
				}
				if got := w.read("usr/lib/local/f"); got != "in the mount" {
					t.Errorf("the guest's mount shows %q", got)
				}
				w.removeWithFaults(m, after)
				if d := difference(w.snapshot(), before); d != "" {
					t.Errorf("after removal:\n%s", d)
				}
				if got := w.mounts(); len(got) != mounts {
					t.Errorf("%d mounts, want %d: %q", len(got), mounts, got)
				}
			})
		}
	}
}

// eachFault fails every step of a plan, and undoes it.
func (w *world) eachFault(plan *Plan, after bool, before map[string]string) {
	w.t.Helper()
	for k := 1; ; k += stride(3) {
		count := 0
		_, err := w.tryApply(plan, failing(k, after, &count))
		if count < k {
			w.must(err)
			w.undo(plan)
			return
		}
		if k/stride(3)%2 == 0 {
			w.apply(plan, nil)
		}
		w.undo(plan)
		if d := difference(w.snapshot(), before); d != "" {
			w.t.Fatalf("step %d, after undo:\n%s", k, d)
		}
	}
}

// removeWithFaults removes all, with ever more steps that fail before another
// attempt.
func (w *world) removeWithFaults(m Method, after bool) {
	w.t.Helper()
	var all []Layer
	for _, p := range w.placed {
		all = append(all, w.all[p.ID])
	}
	plan, err := w.plan(m, nil, all...)
	w.must(err)
	for k := 1; ; k++ {
		count := 0
		_, err := w.tryApply(plan, failing(k, after, &count))
		if err == nil && count < k {
			w.commit(plan)
			return
		}
	}
}

// TestRestartWithinPlan: when the guest is restarted between the elements of a
// plan, or when all are done, it can still be undone, and be finished.
func TestRestartWithinPlan(t *testing.T) {
	t.Parallel()
	for _, m := range overlays() {
		for done := range 3 {
			t.Run(fmt.Sprintf("%s after %d elements", m, done), func(t *testing.T) {
				t.Parallel()
				w := newGuest(t, m)
				v1, v2 := everything(w, "1"), everything(w, "2")
				more := w.layer("more", file("/opt/more/conf", "c", repo.Config), file("/usr/lib/more", "m"))
				w.change(m, []Layer{v1})
				before := w.snapshot()
				plan, err := w.plan(m, []Layer{v2, more}, v1)
				w.must(err)
				for i := range done {
					_, err := plan.Apply(t.Context(), w.open(nil), i, w.views)
					w.must(err)
				}
				w.restart()
				root := w.open(nil)
				for i := 1; i >= 0; i-- {
					w.must(plan.Undo(t.Context(), root, i, w.views))
				}
				w.must(w.env.Restore(t.Context(), root))
				w.must(Restore(t.Context(), root, w.placed, w.views))
				if d := difference(w.snapshot(), before); d != "" {
					t.Fatalf("after undo:\n%s", d)
				}
				for i := range done {
					_, err := plan.Apply(t.Context(), w.open(nil), i, w.views)
					w.must(err)
				}
				w.restart()
				w.apply(plan, nil)
				w.commit(plan)
				if problems := w.problems(); len(problems) > 0 {
					t.Errorf("problems %q", problems)
				}
				if n := len(w.mounts()); n != len(w.env.Roots) {
					t.Errorf("%d mounts, want %d: %q", n, len(w.env.Roots), w.mounts())
				}
			})
		}
	}
}

// restart takes away what a restart of the guest does.
func (w *world) restart() {
	w.t.Helper()
	for _, at := range slices.Backward(w.mounts()) {
		w.must(unix.Unmount(at, unix.MNT_DETACH))
	}
}

// TestThrough: what a package that goes has stays until its last scriptlet
// has run, if there is an environment for that.
func TestThrough(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Overlay)
	gone, next := w.layer("gone", file("/usr/lib/gone", "g")), w.layer("next", file("/usr/lib/next", "n"))
	w.change(Overlay, []Layer{gone})
	through, _ := w.environment([]Layer{gone, next}, nil)
	after, _ := w.environment([]Layer{next}, nil)
	plan, err := MakePlan(t.Context(), w.open(nil), w.placed, Change{Method: Overlay, Tag: "7", Names: w.names,
		Add: []Layer{next}, Remove: []repo.Digest{gone.ID}, Now: &w.env, Through: through, Next: after})
	w.must(err)
	for i, want := range [][]string{{"gone", "next"}, {"next"}} {
		_, err := plan.Apply(t.Context(), w.open(nil), i, w.views)
		w.must(err)
		list, err := filepath.Glob(filepath.Join(w.root, "usr/lib/*"))
		w.must(err)
		var got []string
		for _, p := range list {
			got = append(got, filepath.Base(p))
		}
		if !slices.Equal(got, want) {
			t.Errorf("after element %d: %q, want %q", i, got, want)
		}
		if e := plan.Elements[i].Environment; e == nil || e.ID != []repo.Digest{through.ID, after.ID}[i] {
			t.Errorf("element %d leads to %+v", i, e)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	w := newGuest(t, nested)
	for _, tt := range []struct {
		world *world
		view  string
		upper bool
	}{{newGuest(t, Overlay), "view", false}, {w, "view", true}} {
		got, err := Probe(tt.world.open(nil), tt.view, nil)
		if want := (Means{Shared: true, Mount: true, Overlay: true, Upper: tt.upper}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	w.must(unix.Mount("tmpfs", filepath.Join(w.root, "usr"), "tmpfs", 0, ""))
	if got, err := Probe(w.open(nil), "view", nil); err != nil || got.Overlay || got.Why == "" {
		t.Errorf("with a /usr of its own: %+v, %v", got, err)
	}
	all := Means{Shared: true, Mount: true, Overlay: true}
	for _, tt := range []struct {
		means          Means
		mounts, budget int
		want           Method
	}{
		{all, 500, 0, Bind}, {all, 501, 0, Overlay}, {all, 11, 10, Overlay}, {Means{Shared: true, Mount: true}, 501, 0, Bind},
		{Means{Shared: true}, 1, 0, Symlink}, {Means{Mount: true, Overlay: true}, 1, 0, Copy},
	} {
		if got := Choose(tt.means, tt.mounts, tt.budget); got != tt.want {
			t.Errorf("%+v, %d of %d mounts: got %s, want %s", tt.means, tt.mounts, tt.budget, got, tt.want)
		}
	}
	b := newGuest(t, Bind)
	b.change(Bind, []Layer{b.layer("a", file("/usr/lib/a", "a"), file("/opt/x/b", "b"))})
	plan, err := b.plan(Bind, []Layer{b.layer("c", file("/usr/lib/c", "c"), file("/opt/x/d", "d"))})
	b.must(err)
	if got := plan.Mounts(b.placed); got != 4 { // the folded directory is taken apart
		t.Errorf("%d mounts, want 4", got)
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue")
	f.Add(`36 35 98:0 / /with\040blank rw - overlay stork:00 rw`)
	f.Add("36 35 - x")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseMount(line)
		if err == nil && e.fstype == "" {
			t.Errorf("%q: no type", line)
		}
	})
}
