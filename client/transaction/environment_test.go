package transaction

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stork/client/share"
	"stork/repo"
	"stork/repo/durable"
)

// by has what a change brings placed by the world's method.
func (w *world) by(c Change) Change {
	if c.Method == "" && len(c.Install) > 0 {
		c.Method = w.method
	}
	return c
}

// environment builds a merged tree of the packages, as a nest does, and
// forgets what the guest does not refer to any more.
func (w *world) environment(_ context.Context, r EnvironmentRequest) (*share.Environment, error) {
	if w.down {
		return nil, errors.New("the nest is down")
	}
	if w.asks--; w.asks == 0 {
		w.asks = 1
		return nil, errors.New("the nest has gone")
	}
	if len(r.Packages) == 0 {
		w.refer(r.Keep)
		return &share.Environment{}, nil
	}
	ids := sorted(r.Packages)
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(id.Hex())
	}
	e := &share.Environment{ID: repo.DigestOf([]byte(text.String()))}
	at := filepath.Join(w.dir, "trees", e.ID.Hex())
	e.Trees = []string{at}
	if err := w.merge(at, ids); err != nil {
		return nil, err
	}
	refers := []repo.Digest{e.ID, w.last}
	for _, id := range r.Keep {
		if w.trees[id] {
			refers = append(refers, id)
		}
	}
	w.trees[e.ID], w.last = true, e.ID
	w.refer(refers)
	return e, nil
}

// refer drops the environments that are not listed.
func (w *world) refer(list []repo.Digest) {
	for id := range w.trees {
		if !slices.Contains(list, id) {
			at := filepath.Join(w.dir, "trees", id.Hex())
			_ = unix.Unmount(at, unix.MNT_DETACH) // a process that was killed may have come so far
			w.must(os.RemoveAll(at))
			delete(w.trees, id)
		}
	}
}

// merge makes a read-only tree of layers without what is private in them.
func (w *world) merge(at string, ids []repo.Digest) error {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		return nil
	}
	if err := os.RemoveAll(at); err != nil { // of one that was killed
		return err
	}
	for _, id := range ids {
		view := w.views[id]
		err := filepath.WalkDir(view, func(p string, d fs.DirEntry, err error) error {
			name := strings.TrimPrefix(p, view)
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return os.MkdirAll(at+name, 0o755)
			case slices.Contains(w.hidden[id], name):
				return nil
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			return os.WriteFile(at+name, b, 0o644)
		})
		if err != nil {
			return err
		}
	}
	if err := unix.Mount(at, at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// restart takes away the guest's mounts below /etc and /opt and the nest's
// trees, as a restart of the guest does.
func (w *world) restart() {
	w.t.Helper()
	unmountBelow(w.t, filepath.Join(w.root, "etc"))
	unmountBelow(w.t, filepath.Join(w.root, "opt"))
	for _, dir := range []string{"etc", "opt"} {
		for unix.Unmount(filepath.Join(w.root, dir), unix.MNT_DETACH) == nil {
		}
	}
	for id := range w.trees {
		at := filepath.Join(w.dir, "trees", id.Hex())
		_ = unix.Unmount(at, unix.MNT_DETACH) // one of two that both have dropped
		w.must(os.RemoveAll(at))
	}
}

// overlaid is a world whose packages come by overlays.
func overlaid(t *testing.T) *world {
	w := newWorld(t)
	w.method = share.Overlay
	return w
}

// refersToOne wants the nest to keep the guest's environment and no other.
func (w *world) refersToOne() {
	w.t.Helper()
	g := w.open()
	defer g.Close()
	e := g.State().Environment
	switch {
	case e == nil && len(w.trees) > 0:
		w.t.Errorf("the nest keeps %d environments, the guest has none", len(w.trees))
	case e != nil && (len(w.trees) != 1 || !w.trees[e.ID]):
		w.t.Errorf("the nest keeps %v, the guest has %s", w.trees, e.ID)
	}
}

// TestOverlayLife installs, upgrades, restarts and removes.
func TestOverlayLife(t *testing.T) {
	t.Parallel()
	w := overlaid(t)
	before := w.tree()
	v1 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/one": "1", "/etc/a!": "1"}, "post")
	v2 := w.pkg("a", "2", map[string]string{"/opt/a/f": "2", "/opt/a/two": "2", "/etc/a!": "2"}, "post", "preun")
	b := w.pkg("b", "1", map[string]string{"/opt/b/f": "b", "/etc/b!": "b"})
	w.run(Change{Install: []Package{v1, b}})
	w.write("opt/own", "own")
	w.write("opt/a/mine", "mine")
	w.refersToOne()
	w.run(upgrade(v1, v2))
	w.refersToOne()
	w.write("etc/b", "edited")
	tree := w.tree()
	if tree["/opt/a/f"] != "2" || tree["/opt/a/two"] != "2" || tree["/opt/a/one"] != "" || tree["/opt/a/mine"] != "mine" || tree["/etc/a"] != "2" {
		t.Errorf("after the upgrade: %v", tree)
	}
	g := w.open()
	for path, want := range map[string]bool{"/opt/a/f": true, "/opt/own": false, "/opt/a/mine": false, "/etc/a": true, "/opt/b/f": true} {
		if got := g.State().Owns(path); got != want {
			t.Errorf("Owns(%s) = %v", path, got)
		}
	}
	w.must(g.Close())

	w.restart()
	g = w.open()
	problems, err := g.Verify(t.Context())
	if err != nil || !slices.ContainsFunc(problems, func(p share.Problem) bool { return p.What == share.Unmounted && p.Path == "/opt" }) {
		t.Errorf("after a restart: %v, %v", problems, err)
	}
	w.must(g.Mount(t.Context()))
	w.must(g.Close())
	if d := difference(w.tree(), tree); d != "" {
		t.Errorf("mounted again:\n%s", d)
	}
	w.write("opt/a/f", "changed")
	g = w.open()
	problems, err = g.Verify(t.Context(), v2.Ref.ID)
	if err != nil || len(problems) != 1 || problems[0].Path != "/opt/a/f" || problems[0].ID != v2.Ref.ID || problems[0].What != share.Changed {
		t.Errorf("a changed file: %v, %v", problems, err)
	}
	if problems, err = g.Verify(t.Context(), b.Ref.ID); err != nil || len(problems) != 1 || problems[0].Path != "/etc/b" {
		t.Errorf("an edited file of b: %v, %v", problems, err)
	}
	w.must(g.Close())
	w.must(os.Remove(filepath.Join(w.root, "opt/a/f"))) // hidden from now on

	out := w.run(Change{Remove: []repo.Digest{v2.Ref.ID, b.Ref.ID}})
	if len(out.Removed) != 2 || len(out.Failed) > 0 {
		t.Errorf("removal: %+v", out)
	}
	w.refersToOne()
	left := w.tree()
	for _, own := range []string{"/opt/own", "/opt/a/mine", "/opt/a", "/etc/b.rpmsave"} {
		delete(left, own)
	}
	if d := difference(left, before); d != "" {
		t.Errorf("left behind:\n%s", d)
	}
	g = w.open()
	defer g.Close()
	if s := g.State(); s.Environment != nil || s.Aliases != nil || s.Sharing() != "" {
		t.Errorf("state %+v", s)
	}
}

// TestOverlayFailures: whatever fails, the environment is in the end that of
// what is installed.
func TestOverlayFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		phase           string // of "bad", that fails
		change          func(bad, good, next Package) Change
		first           []int // of bad, good, next: installed before
		installed       []string
		there, notThere []string
	}{
		{"one that comes", "pre", func(bad, good, _ Package) Change { return Change{Install: []Package{good, bad}} }, nil,
			[]string{"good-1-1.noarch"}, []string{"/opt/good/f"}, []string{"/opt/bad/f"}},
		{"one that comes first", "pre", func(bad, good, _ Package) Change { return Change{Install: []Package{bad, good}} }, nil,
			[]string{"good-1-1.noarch"}, []string{"/opt/good/f"}, []string{"/opt/bad/f"}},
		{"one that goes last", "preun", func(bad, good, _ Package) Change {
			return Change{Remove: []repo.Digest{good.Ref.ID, bad.Ref.ID}}
		}, []int{0, 1}, []string{"bad-1-1.noarch"}, []string{"/opt/bad/f"}, []string{"/opt/good/f"}},
		{"one that goes first", "preun", func(bad, good, _ Package) Change {
			return Change{Remove: []repo.Digest{bad.Ref.ID, good.Ref.ID}}
		}, []int{0, 1}, []string{"bad-1-1.noarch"}, []string{"/opt/bad/f"}, []string{"/opt/good/f"}},
		{"one that goes while another comes", "preun", func(bad, good, _ Package) Change {
			return Change{Install: []Package{good}, Remove: []repo.Digest{bad.Ref.ID}}
		}, []int{0}, []string{"bad-1-1.noarch", "good-1-1.noarch"}, []string{"/opt/bad/f", "/opt/good/f"}, nil},
		{"one that is replaced", "preun", func(bad, _, next Package) Change { return upgrade(bad, next) }, []int{0},
			[]string{"bad-2-1.noarch"}, []string{"/opt/bad/f"}, []string{"/opt/bad/one"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := overlaid(t)
			all := []Package{
				w.pkg("bad", "1", map[string]string{"/opt/bad/f": "1", "/opt/bad/one": "1", "/etc/bad!": "c"}, tt.phase+":exit 3"),
				w.pkg("good", "1", map[string]string{"/opt/good/f": "1"}, "post", "preun"),
				w.pkg("bad", "2", map[string]string{"/opt/bad/f": "2"}, "post"),
			}
			var first Change
			for _, i := range tt.first {
				first.Install = append(first.Install, all[i])
			}
			if len(first.Install) > 0 {
				w.run(first)
			}
			out := w.run(tt.change(all[0], all[1], all[2]))
			if len(out.Failed)+len(out.Warnings) == 0 {
				t.Error("nothing failed")
			}
			if got := w.installed(); !slices.Equal(got, tt.installed) {
				t.Errorf("installed %q, want %q", got, tt.installed)
			}
			w.refersToOne()
			tree := w.tree()
			for _, p := range tt.there {
				if _, ok := tree[p]; !ok {
					t.Errorf("%s is not there", p)
				}
			}
			for _, p := range tt.notThere {
				if _, ok := tree[p]; ok {
					t.Errorf("%s is still there", p)
				}
			}
		})
	}
}

// TestUnsettled: a guest whose environment could not be made that of what is
// installed can be mounted, changed, and is then as any other.
func TestUnsettled(t *testing.T) {
	t.Parallel()
	w := overlaid(t)
	bad := w.pkg("bad", "1", map[string]string{"/opt/bad/f": "1"}, "pre:exit 3")
	good := w.pkg("good", "1", map[string]string{"/opt/good/f": "1"}, "post")
	more := w.pkg("more", "1", map[string]string{"/opt/more/f": "1"})
	w.asks = 2
	out := w.run(Change{Install: []Package{good, bad}})
	if len(out.Failed) != 1 || len(out.Warnings) != 1 {
		t.Errorf("outcome %+v", out)
	}
	w.asks = 0
	w.down = true // else it is settled by the next command
	g := w.open()
	if got, want := g.State().Merged, sorted([]repo.Digest{bad.Ref.ID, good.Ref.ID}); !slices.Equal(got, want) {
		t.Errorf("the environment is said to be of %v, want %v", got, want)
	}
	w.must(g.Close())
	w.restart()
	g = w.open()
	w.down = false
	w.must(g.Mount(t.Context()))
	w.must(g.Close())
	if tree := w.tree(); tree["/opt/good/f"] != "1" {
		t.Errorf("mounted: %v", tree)
	}
	w.run(Change{Install: []Package{more}})
	if tree := w.tree(); tree["/opt/good/f"]+tree["/opt/more/f"] != "11" || tree["/opt/bad/f"] != "" {
		t.Errorf("after the next: %v", tree)
	}
	w.refersToOne()
	g = w.open()
	defer g.Close()
	if g.State().Merged != nil {
		t.Error("still unsettled")
	}
}

// TestEnvironmentStays: where the environment of packages that are removed can
// not be taken away, the guest is told, has it as before, and the next command
// takes it away, whatever that one is.
func TestEnvironmentStays(t *testing.T) {
	t.Parallel()
	for _, rest := range []bool{false, true} {
		w := overlaid(t)
		gone := w.pkg("gone", "1", map[string]string{"/opt/gone/f": "1", "/etc/gone!": "c"}, "preun")
		stays := w.pkg("stays", "1", map[string]string{"/opt/stays/f": "1"})
		install := []Package{gone}
		if rest {
			install = append(install, stays)
		}
		w.run(Change{Install: install})
		w.write("opt/own", "own")
		failing := func(step durable.Step, path string) (error, error) {
			if step == share.StepUnmount && path == "/opt" {
				return unix.EIO, nil
			}
			return nil, nil
		}
		for try := range 2 {
			g, err := w.tryOpen(failing)
			w.must(err)
			change := Change{Remove: []repo.Digest{gone.Ref.ID}}
			if try > 0 {
				change = Change{}
			}
			out, err := g.Run(t.Context(), w.by(change))
			w.must(errors.Join(err, g.Close()))
			if len(out.Failed) > 0 || !slices.ContainsFunc(out.Warnings, func(s string) bool { return strings.Contains(s, "still to be seen") }) {
				t.Errorf("try %d: outcome %+v", try, out)
			}
			if tree := w.tree(); tree["/opt/own"] != "own" || !rest && tree["/opt/gone/f"] != "1" || rest && tree["/opt/stays/f"] != "1" {
				t.Errorf("try %d: the guest has %v", try, tree)
			}
		}
		w.must(w.reopened())
		tree := w.tree()
		if _, there := tree["/opt/gone/f"]; there || tree["/opt/own"] != "own" || rest != (tree["/opt/stays/f"] == "1") {
			t.Errorf("after the next command: %v", tree)
		}
		if len(w.trees) > 0 != rest {
			t.Errorf("the nest keeps %v", w.trees)
		}
		w.refersToOne()
		g := w.open()
		if g.State().unsettled() {
			t.Error("still unsettled")
		}
		w.must(g.Close())
	}
}

// TestConvertGuest converts from each method to each other, with a fault at
// each step, and wants the guest's files as they were.
func TestConvertGuest(t *testing.T) {
	t.Parallel()
	methods := []share.Method{share.Bind, share.Overlay, share.Copy}
	for _, from := range methods {
		for _, to := range methods {
			if from == to {
				continue
			}
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				t.Parallel()
				convertWithFaults(t, from, to)
			})
		}
	}
}

func convertWithFaults(t *testing.T, from, to share.Method) {
	ends := map[share.Method]int{}
	for k := 1; ; k += 3 {
		w := newWorld(t)
		w.method = from
		a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/sub/g": "g", "/etc/a!": "1"}, "post", "preun")
		b := w.pkg("b", "1", map[string]string{"/opt/b/f": "b", "/opt/a/of-b": "b"})
		w.run(Change{Install: []Package{a, b}})
		w.write("opt/own", "own")
		w.write("etc/a", "edited")
		before := w.tree()
		choice, count := to, 0
		convert := Change{Method: to, Convert: true, Choice: &choice, Install: []Package{
			{Ref: a.Ref, Private: a.Private}, {Ref: b.Ref, Private: b.Private}}}
		w.unseen = nil
		done := w.attempt(convert, flavours[k%len(flavours)].at(k, &count))
		w.must(w.reopened())
		if d := difference(w.tree(), before); d != "" {
			t.Fatalf("step %d:\n%s", k, d)
		}
		g := w.open()
		now := g.State().Sharing()
		if want := share.Method(""); now != want && now != from && now != to || g.State().Find(a.Ref.ID).Placed.Method != g.State().Find(b.Ref.ID).Placed.Method {
			t.Fatalf("step %d: methods are mixed", k)
		}
		now = g.State().Find(a.Ref.ID).Placed.Method
		if wantChoice := map[bool]share.Method{true: to, false: ""}[now == to]; g.State().Method != wantChoice {
			t.Errorf("step %d: the choice is %q, want %q", k, g.State().Method, wantChoice)
		}
		w.must(g.Close())
		ends[now]++
		if count < k {
			if !done || now != to {
				t.Errorf("undisturbed, but %s", now)
			}
			unused := 0
			if to == share.Copy || to == share.Overlay && from == share.Bind {
				unused = 2
			}
			if len(w.unseen) != unused {
				t.Errorf("layers %v were taken out of the view, want %d", w.unseen, unused)
			}
			if len(w.trees) > 0 != (to == share.Overlay) {
				t.Errorf("the nest has environments %v", w.trees)
			}
			out := w.run(Change{Remove: []repo.Digest{a.Ref.ID, b.Ref.ID}})
			if len(out.Failed) > 0 || len(w.installed()) > 0 {
				t.Errorf("removal after the conversion: %+v", out)
			}
			unmountBelow(t, w.dir)
			break
		}
		unmountBelow(t, w.dir)
	}
	t.Logf("ends: %v", ends)
	if ends[from] == 0 || ends[to] == 0 {
		t.Errorf("not every end was seen: %v", ends)
	}
}

// reopened opens the guest and closes it, as the next command does.
func (w *world) reopened() error {
	g, err := w.tryOpen(nil)
	if err != nil {
		return err
	}
	return g.Close()
}

// TestRestartWithinTransaction: a guest that is restarted in the middle of an
// upgrade finishes it, or undoes it, when it is next opened.
func TestRestartWithinTransaction(t *testing.T) {
	t.Parallel()
	for _, scripts := range []bool{false, true} {
		var phases []string
		if scripts {
			phases = []string{"pre", "post", "preun"}
		}
		for k := 1; ; k += 2 {
			w := overlaid(t)
			v1 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/one": "1", "/etc/a!": "1"}, phases...)
			v2 := w.pkg("a", "2", map[string]string{"/opt/a/f": "2", "/opt/a/two": "2", "/etc/a!": "2"}, phases...)
			w.run(Change{Install: []Package{v1}})
			count := 0
			w.attempt(upgrade(v1, v2), flavour{crash: true}.at(k, &count))
			w.restart()
			g := w.open()
			w.must(g.Mount(t.Context()))
			w.must(g.Close())
			names, tree := w.installed(), w.tree()
			if len(names) != 1 || tree["/opt/a/f"] != names[0][2:3] || tree["/etc/a"] != names[0][2:3] {
				t.Fatalf("step %d: %q has %v", k, names, tree)
			}
			unmountBelow(t, w.dir)
			if count < k {
				break
			}
		}
	}
}

// TestBudget: a change that takes more mounts than the guest may have changes
// nothing.
func TestBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("opt/own", "own")
	before := w.tree()
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/b/f": "1", "/opt/c/f": "1"})
	g := w.open()
	_, err := g.Run(t.Context(), Change{Install: []Package{a}, Budget: 2})
	var over *BudgetError
	if !errors.As(err, &over) || over.Mounts != 3 || over.Budget != 2 {
		t.Errorf("got %v", err)
	}
	w.must(g.Close())
	if d := difference(w.tree(), before); d != "" || len(w.installed()) > 0 || len(w.refs) > 0 {
		t.Errorf("changed: %s %v", d, w.refs)
	}
	g, err = w.tryOpen(durable.Fault(nil))
	w.must(err)
	defer g.Close()
	if out, err := g.Run(t.Context(), Change{Install: []Package{a}, Budget: 3}); err != nil || len(out.Installed) != 1 {
		t.Errorf("within the budget: %+v, %v", out, err)
	}
}
