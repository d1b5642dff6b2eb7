package share

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"stork/repo"
	"stork/repo/durable"
)

// scenario is a sequence of changes; after each one the guest must look the
// same with every method.
type scenario struct {
	name    string
	prepare func(w *world)
	steps   []func(w *world, m Method)
}

// pkg makes a package with a bit of everything. What version 2 changes, drops
// and adds follows from v.
func everything(w *world, v string) Layer {
	files := []repo.File{
		directory("/opt/app"), directory("/opt/app/share"), directory("/opt/app/empty"),
		with(directory("/opt/app/closed"), func(f *repo.File) { f.Mode = 0o700 }),
		file("/opt/app/share/same", "unchanged"),
		file("/opt/app/share/version", v),
		file("/opt/app/share/only"+v, v),
		file("/opt/app/closed/secret", "s"+v),
		symlink("/opt/app/current", "share/only"+v),
		with(file("/usr/bin/app", "#!"+v), func(f *repo.File) { f.Mode = 0o755 }),
		with(file("/usr/bin/su-app", "su"), func(f *repo.File) { f.Mode = 0o4755 }),
		file("/usr/lib/app/one", "linked"), file("/usr/lib/app/two", "linked"),
		symlink("/usr/lib/libapp.so", "libapp.so."+v),
		file("/usr/lib/libapp.so."+v, "lib"+v),
		file("/etc/app.conf", "conf"+v, repo.Config),
		file("/etc/app.keep", "keep"+v, repo.Config, repo.NoReplace),
		file("/etc/app.d/plain", "plain"+v),
		with(file("/var/lib/app/data", "data"+v), func(f *repo.File) { f.User = "daemon"; f.Mode = 0o640 }),
		with(directory("/var/lib/app"), func(f *repo.File) { f.Mode = 0o1777 }),
		with(directory("/usr/lib/app/team"), func(f *repo.File) { f.Mode = 0o2775; f.Group = "tty" }),
		file("/usr/lib/app/team/notes", "notes"),
		{Path: "/var/lib/app/pipe", Type: repo.Fifo, Mode: 0o600},
		file("/var/lib/app/cache", "", repo.Ghost),
	}
	if os.Getuid() != 0 || !canChown(w) {
		for i := range files {
			files[i].User, files[i].Group = "", ""
		}
	}
	return w.layer("app-"+v, files...)
}

func canChown(w *world) bool {
	probe := filepath.Join(w.dir, "probe")
	w.must(os.WriteFile(probe, nil, 0o600))
	return os.Chown(probe, 1, 5) == nil
}

func scenarios() []scenario {
	var v1, v2 Layer
	install := func(name string, files ...repo.File) func(*world, Method) {
		return func(w *world, m Method) { w.change(m, []Layer{w.layer(name, files...)}) }
	}
	removeAll := func(w *world, m Method) {
		var all []Layer
		for _, p := range w.placed {
			all = append(all, Layer{ID: p.ID})
		}
		w.change(m, nil, all...)
	}
	return []scenario{
		{"install, upgrade, remove", nil, []func(*world, Method){
			func(w *world, m Method) { v1 = everything(w, "1"); w.change(m, []Layer{v1}) },
			func(w *world, m Method) { v2 = everything(w, "2"); w.change(m, []Layer{v2}, v1) },
			removeAll,
		}},
		{"directories of two packages", nil, []func(*world, Method){
			install("a", file("/opt/x/a/1", "1"), file("/opt/x/a/2", "2")),
			install("b", file("/opt/x/b/1", "b1"), file("/opt/x/a/3", "3")),
			install("c", file("/opt/x/a/sub/c", "c"), symlink("/opt/x/l", "b")),
			removeAll,
		}},
		{"two packages at once", nil, []func(*world, Method){
			func(w *world, m Method) {
				w.change(m, []Layer{
					w.layer("a", file("/usr/share/d/a", "a"), file("/usr/share/same", "same")),
					w.layer("b", file("/usr/share/d/b", "b"), file("/usr/share/same", "same")),
				})
			},
			func(w *world, m Method) { w.change(m, nil, Layer{ID: w.placed[0].ID}) },
			removeAll,
		}},
		{"the guest's own symlink of a directory", nil, []func(*world, Method){
			install("a", file("/bin/x", "x"), file("/usr/bin/y", "y"), file("/bin/deep/z", "z"), file("/usr/bin/deep/u", "u")),
			removeAll,
		}},
		{"the guest's own identical file", func(w *world) { w.write("usr/lib/same", "same") }, []func(*world, Method){
			install("a", file("/usr/lib/same", "same"), symlink("/usr/lib/l", "same")),
			removeAll,
		}},
		{"a file becomes a symlink and a directory", nil, []func(*world, Method){
			func(w *world, m Method) {
				v1 = w.layer("a-1", file("/usr/lib/p", "p"), file("/usr/lib/q", "q"), symlink("/usr/lib/r", "q"))
				w.change(m, []Layer{v1})
			},
			func(w *world, m Method) {
				v2 = w.layer("a-2", symlink("/usr/lib/p", "q"), file("/usr/lib/q/in", "in"), file("/usr/lib/r", "r"))
				w.change(m, []Layer{v2}, v1)
			},
			removeAll,
		}},
		{"shared becomes private and back", nil, []func(*world, Method){
			func(w *world, m Method) {
				v1 = w.layer("a-1", file("/etc/p", "p"), file("/etc/q", "q", repo.Config))
				w.change(m, []Layer{v1})
			},
			func(w *world, m Method) {
				v2 = w.layer("a-2", file("/etc/p", "p", repo.Config), file("/etc/q", "q2"))
				w.change(m, []Layer{v2}, v1)
			},
			removeAll,
		}},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for i := range scenarios() {
		s := scenarios()[i] // of its own: they keep what they have installed
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			worlds := map[Method]*world{}
			runs := map[Method]scenario{}
			for _, m := range methods() {
				runs[m] = scenarios()[i]
				worlds[m] = newGuest(t, m)
				if s.prepare != nil {
					s.prepare(worlds[m])
				}
			}
			before := worlds[Bind].snapshot()
			for n := range s.steps {
				seen := map[Method]map[string]string{}
				for _, m := range methods() {
					w := worlds[m]
					w.t = t
					runs[m].steps[n](w, m)
					if problems := w.problems(); len(problems) > 0 {
						t.Errorf("step %d, %s: problems %q", n, m, problems)
					}
					seen[m] = w.snapshot()
					if d := difference(seen[m], seen[Bind]); d != "" {
						t.Errorf("step %d: %s (got) differs from bind (want):\n%s", n, m, d)
					}
				}
			}
			for m, w := range worlds {
				if d := difference(w.snapshot(), before); d != "" {
					t.Errorf("%s, after removal:\n%s", m, d)
				}
				for _, at := range w.mounts() {
					t.Errorf("%s: mount left behind: %s", m, at)
				}
			}
		})
	}
}

// TestUserNamespace runs the suite again as the root of a user namespace, as
// in a container.
func TestUserNamespace(t *testing.T) {
	if os.Getenv(inNamespace) != "1" || os.Getenv("STORK_TEST_NESTED") != "" {
		t.Skip("is in one")
	}
	t.Setenv("STORK_TEST_NESTED", "1")
	if status := rerun(syscall.CLONE_NEWUSER, "-test.run=^TestConformance$", "-test.count=1"); status != 0 {
		t.Errorf("status %d in a user namespace", status)
	}
}

// TestFaults fails every step of an upgrade that does everything, before and
// after it is done. Then undo must restore what was there, and another
// attempt must reach the same end as an undisturbed one.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, m := range methods() {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", m, after), func(t *testing.T) {
				t.Parallel()
				faults(t, m, after)
			})
		}
	}
}

func faults(t *testing.T, m Method, after bool) {
	w := newGuest(t, m)
	v1, v2 := everything(w, "1"), everything(w, "2")
	other := w.layer("other", file("/opt/other/a", "a"), file("/opt/other/sub/b", "b"))
	more := w.layer("more", file("/opt/other/sub/c", "c"))
	w.change(m, []Layer{v1, other})
	w.write("etc/app.conf", "mine")
	w.write("etc/app.keep", "mine too")
	before := w.snapshot()
	plan, err := w.plan(m, []Layer{v2, more}, v1)
	w.must(err)
	add := &Plan{Tag: plan.Tag, Method: plan.Method, Elements: plan.Elements[:2]}
	k, by := 0, stride(2)
	if m == byNest {
		by *= 4 // each mount takes a process
	}
	for k = 1; ; k += by {
		count, last := 0, ""
		fault := failing(k, after, &count)
		_, err := w.tryApply(add, func(s durable.Step, p string) (error, error) {
			if count < k {
				last = fmt.Sprint(s, " ", p)
			}
			return fault(s, p)
		})
		if count < k {
			w.must(err)
			break
		}
		if err == nil && !after { // a step that fails anyway hides the fault behind it
			t.Fatalf("step %d (%s) failed and nobody noticed", k, last)
		}
		if k/by%2 == 0 { // a second attempt after the error
			w.apply(add, nil)
		}
		w.undo(add)
		if d := difference(w.snapshot(), before); d != "" {
			t.Fatalf("step %d: after undo:\n%s", k, d)
		}
		if problems := w.problems(); len(problems) != 2 { // the two changed files
			t.Fatalf("step %d: after undo: %q", k, problems)
		}
	}
	t.Logf("%d steps", k-1)
	w.apply(plan, nil)
	w.commit(plan)
	if problems := w.problems(); !slices.Equal(problems, []string{"changed /etc/app.keep"}) {
		t.Errorf("problems %q", problems)
	}
	for p := range w.snapshot() {
		if strings.Contains(p, "/.stork-") {
			t.Errorf("left behind: %s", p)
		}
	}
}

func (w *world) undo(plan *Plan) {
	w.t.Helper()
	root := w.open(nil)
	w.confined(func() {
		for i := len(plan.Elements) - 1; i >= 0; i-- {
			w.must(plan.Undo(w.t.Context(), root, i, w.views))
		}
	})
}
