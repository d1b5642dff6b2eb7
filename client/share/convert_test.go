package share

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// everywhere is a guest that any method can be used in.
func everywhere(t *testing.T, m Method) *world {
	w := newGuest(t, m)
	w.write("usr/lib/same", "same")
	w.write("usr/lib/mine", "mine")
	w.write("opt/mine/file", "mine")
	return w
}

// convert plans to place all that is installed by another method.
func (w *world) convert(m Method, more ...Layer) (*Plan, error) {
	m = m.real()
	c := Change{Method: m, Tag: "9", Names: w.names, Convert: true, Now: &w.env}
	for _, p := range w.placed {
		c.Add = append(c.Add, w.all[p.ID])
	}
	c.Add = append(c.Add, more...)
	root := w.open(nil)
	aliases, err := root.Aliases()
	w.must(err)
	for {
		if m == Overlay {
			c.Next, w.merges = w.environment(c.Add, aliases)
		}
		plan, err := MakePlan(context.Background(), root, w.placed, c)
		var more *AliasError
		if !errors.As(err, &more) {
			return plan, err
		}
		maps.Copy(aliases, more.Aliases)
	}
}

// missing compares before what is kept for an undo is removed.
func (w *world) missing(want map[string]string) string {
	got := w.snapshot()
	maps.DeleteFunc(got, func(p, _ string) bool { return strings.Contains(p, "/.stork-") })
	for p, line := range got {
		got[p], _, _ = strings.Cut(line, " = ")
	}
	want = maps.Clone(want)
	for p, line := range want {
		want[p], _, _ = strings.Cut(line, " = ")
	}
	return difference(got, want)
}

func (w *world) commitConversion(plan *Plan) {
	w.t.Helper()
	w.placed = nil
	w.commit(plan)
}

// stride is by how much the number of the step that fails grows: the full
// matrix takes minutes.
func stride(local int) int {
	if os.Getenv("CI") == "true" {
		return 1
	}
	return local
}

// TestConvert: from any method to any other the guest sees the same, keeps
// what is its own and what it has edited, and after a failure at any step has
// what it had.
func TestConvert(t *testing.T) {
	t.Parallel()
	for _, from := range methods() {
		for _, to := range methods() {
			kind := Symlink // with the view in the guest
			if from == nested || to == nested {
				kind = nested
			}
			if from == byNest || to == byNest {
				if kind = byNest; !slices.Contains([]Method{Symlink, Copy}, from) && !slices.Contains([]Method{Symlink, Copy}, to) {
					continue // overlays need the right to mount, and with it the guest mounts itself
				}
			}
			if from == to || kind == nested && slices.ContainsFunc([]Method{from, to}, func(m Method) bool { return m == Overlay || m == Symlink }) {
				continue
			}
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				t.Parallel()
				convertGuest(t, everywhere(t, kind), from, to)
			})
		}
	}
}

func convertGuest(t *testing.T, w *world, from, to Method) {
	empty := w.snapshot()
	other := w.layer("other", file("/opt/app/share/same", "unchanged"), file("/usr/lib/same", "same"),
		file("/usr/share/other/a", "a"), file("/usr/share/other/sub/b", "b"), file("/bin/other", "o"),
		file("/usr/share/other/sub/conf", "c", repo.Config))
	w.change(from, []Layer{everything(w, "1")})
	w.change(from, []Layer{other})
	w.write("etc/app.conf", "edited")
	w.write("var/lib/app/cache", "made by a scriptlet")
	before, problems := w.snapshot(), w.problems()
	more := w.layer("more", file("/usr/share/more", "m"), file("/opt/app/share/more", "m2"))
	want := maps.Clone(before)
	want["/usr/share/more"], want["/opt/app/share/more"] = "100644 0:0 m", "100644 0:0 m2"
	plan, err := w.convert(to, more)
	w.must(err)
	by := stride(9)
	if from == byNest || to == byNest {
		by *= 4 // each mount takes a process
	}
	for i, after := range []bool{false, true} {
		for k := 1 + i*by/2; ; k += by {
			count := 0
			_, err := w.tryApply(plan, failing(k, after, &count))
			if count < k {
				w.must(err)
				w.undo(plan)
				break
			}
			if k/by%2 == 0 {
				w.apply(plan, nil)
			}
			w.undo(plan)
			if d := difference(w.snapshot(), before); d != "" {
				t.Fatalf("step %d, after=%v, after undo:\n%s", k, after, d)
			}
		}
	}
	w.apply(plan, nil)
	if problems := w.missing(want); problems != "" {
		t.Errorf("after conversion:\n%s", problems)
	}
	w.commitConversion(plan)
	if d := difference(w.snapshot(), want); d != "" {
		t.Errorf("after commit:\n%s", d)
	}
	if got := w.problems(); !slices.Equal(got, problems) {
		t.Errorf("problems %q, before %q", got, problems)
	}
	for _, p := range w.placed {
		if p.Method != to.real() {
			t.Errorf("a package's method is %s", p.Method)
		}
	}
	var all []Layer
	for _, p := range w.placed {
		all = append(all, w.all[p.ID])
	}
	w.change(to, nil, all...)
	empty["/etc/app.conf.rpmsave"] = "100644 0:0 edited"
	if d := difference(w.snapshot(), empty); d != "" {
		t.Errorf("after removal:\n%s", d)
	}
	for _, at := range w.mounts() {
		t.Errorf("mount left behind: %s", at)
	}
}

// TestConvertKeepsVersions: a shared file that the guest has its own version
// of is kept aside.
func TestConvertKeepsVersions(t *testing.T) {
	t.Parallel()
	for _, to := range []Method{Bind, Symlink, Copy} {
		w := everywhere(t, Symlink)
		w.change(Overlay, []Layer{w.layer("p", file("/usr/lib/x/f", "shared"), file("/usr/lib/x/g", "g"), file("/usr/lib/x/h", "h"))})
		f, err := os.OpenFile(filepath.Join(w.root, "usr/lib/x/f"), os.O_WRONLY|os.O_APPEND, 0)
		w.must(err)
		_, err = f.WriteString(" and more")
		w.must(errors.Join(err, f.Close()))
		w.must(os.Remove(filepath.Join(w.root, "usr/lib/x/g")))
		w.must(os.Chmod(filepath.Join(w.root, "usr/lib/x/h"), 0o600))
		if found, err := w.env.Check(t.Context(), w.open(nil)); err != nil || len(found) != 3 {
			t.Errorf("problems %v, %v", found, err)
		}
		plan, err := w.convert(to)
		w.must(err)
		warnings := w.apply(plan, nil)
		w.commitConversion(plan)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "/usr/lib/x/f.rpmsave") {
			t.Errorf("%s: warnings %q", to, warnings)
		}
		got := w.snapshot()
		for p, want := range map[string]string{"f": "shared", "g": "g", "h": "h", "f.rpmsave": "shared and more"} {
			if !strings.HasSuffix(got["/usr/lib/x/"+p], " "+want) {
				t.Errorf("%s: %s is %q, want %q", to, p, got["/usr/lib/x/"+p], want)
			}
		}
		if found := w.problems(); len(found) > 0 {
			t.Errorf("%s: problems %q", to, found)
		}
	}
}

// TestConvertTop: a directory in the guest's root that was not there before,
// and is a package's mount as a whole, is no file system of its own.
func TestConvertTop(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Symlink)
	w.must(os.Remove(filepath.Join(w.root, "opt")))
	empty := w.snapshot()
	l := w.layer("p", file("/opt/p/f", "f"), file("/usr/lib/p/f", "f2"))
	w.change(Bind, []Layer{l})
	opt := filepath.Join(w.root, "opt")
	if !slices.Contains(w.mounts(), opt) {
		t.Fatalf("mounts %q: /opt is none", w.mounts())
	}
	before := w.snapshot()
	probe := func() Means {
		means, err := Probe(w.open(nil), "view", w.placed)
		w.must(err)
		return means
	}
	w.must(unix.Mount("tmpfs", opt, "tmpfs", 0, ""))
	if means := probe(); means.Overlay || !strings.Contains(means.Why, "/opt") {
		t.Errorf("with somebody else's mount on it: %+v", means)
	}
	w.must(unix.Unmount(opt, 0))
	if means := probe(); !means.Overlay {
		t.Errorf("can not convert: %s", means.Why)
	}
	for _, m := range []Method{Overlay, Bind, Overlay} {
		plan, err := w.convert(m)
		w.must(err)
		w.apply(plan, nil)
		w.commitConversion(plan)
		if d := difference(w.snapshot(), before); d != "" {
			t.Errorf("by %s:\n%s", m, d)
		}
		if means := probe(); !means.Overlay {
			t.Errorf("by %s: can not convert: %s", m, means.Why)
		}
	}
	w.change(Overlay, nil, l)
	if d := difference(w.snapshot(), empty); d != "" {
		t.Errorf("after removal:\n%s", d)
	}
}
