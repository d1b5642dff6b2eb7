package transaction

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stork/client/scriptlet"
	"stork/client/share"
	"stork/repo"
)

var allPhases = []string{"pretrans", "pre", "post", "posttrans", "preun", "postun"}

// TestOrder holds an install, an upgrade and a removal to the order and the
// arguments that rpm 4.18 was seen to use.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v1 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1"}, allPhases...)
	v2 := w.pkg("a", "2", map[string]string{"/opt/a/f": "2"}, allPhases...)
	steps := []struct {
		change Change
		want   []string
	}{
		{Change{Install: []Package{v1}}, []string{"a-1 pretrans 1", "a-1 pre 1", "a-1 post 1", "a-1 posttrans 1"}},
		{upgrade(v1, v2), []string{"a-2 pretrans 2", "a-2 pre 2", "a-2 post 2", "a-1 preun 1", "a-1 postun 1", "a-2 posttrans 2"}},
		{Change{Remove: []repo.Digest{v2.Ref.ID}}, []string{"a-2 preun 0", "a-2 postun 0"}},
	}
	for _, s := range steps {
		out := w.run(s.change)
		if len(out.Failed)+len(out.Warnings) > 0 {
			t.Errorf("failed %v, warnings %q", out.Failed, out.Warnings)
		}
		if got := w.log(); !slices.Equal(got, s.want) {
			t.Errorf("got %q, want %q", got, s.want)
		}
	}
	if got := w.installed(); len(got) > 0 || len(w.refs) > 0 {
		t.Errorf("left: %q, references %v", got, w.refs)
	}
}

// TestScriptletFailure holds failing scriptlets to rpm's rules.
func TestScriptletFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		phase             string // fails, in version 2 or for a removal in version 1
		old               bool
		installed, failed []string
		warnings          int
		removalInstalled  []string
	}{
		{phase: "pretrans", installed: []string{"a-1-1.noarch", "b-1-1.noarch"}, failed: []string{"a-2-1.noarch"}},
		{phase: "pre", installed: []string{"a-1-1.noarch", "b-1-1.noarch"}, failed: []string{"a-2-1.noarch"}},
		{phase: "post", installed: []string{"a-2-1.noarch", "b-1-1.noarch"}, warnings: 1},
		{phase: "posttrans", installed: []string{"a-2-1.noarch", "b-1-1.noarch"}, warnings: 1},
		{phase: "preun", old: true, installed: []string{"a-1-1.noarch", "a-2-1.noarch", "b-1-1.noarch"}, failed: []string{"a-1-1.noarch"}},
		{phase: "postun", old: true, installed: []string{"a-2-1.noarch", "b-1-1.noarch"}, warnings: 1},
	}
	for _, tt := range tests {
		t.Run(tt.phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			bad := slices.Clone(allPhases)
			bad[slices.Index(bad, tt.phase)] += ":exit 3"
			first, second := allPhases, bad
			if tt.old {
				first, second = bad, allPhases
			}
			v1 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/one": "1", "/etc/a!": "1"}, first...)
			v2 := w.pkg("a", "2", map[string]string{"/opt/a/f": "2", "/opt/a/two": "2", "/etc/a!": "2"}, second...)
			b := w.pkg("b", "1", map[string]string{"/opt/b/f": "1", "/opt/a/b": "b"}, allPhases...)
			w.run(Change{Install: []Package{v1}})
			c := upgrade(v1, v2)
			c.Install = append(c.Install, b)
			out := w.run(c)
			if got := w.installed(); !slices.Equal(got, tt.installed) {
				t.Errorf("installed %q, want %q", got, tt.installed)
			}
			var failed []string
			for _, f := range out.Failed {
				failed = append(failed, f.Package.String())
				var script *scriptlet.FailedError
				if !errors.As(f.Err, &script) || string(script.Phase) != tt.phase {
					t.Errorf("failed with %v", f.Err)
				}
			}
			if !slices.Equal(failed, tt.failed) || len(out.Warnings) != tt.warnings {
				t.Errorf("failed %q, want %q; warnings %q, want %d", failed, tt.failed, out.Warnings, tt.warnings)
			}
			if log := w.log(); slices.Index(log, "b-1 posttrans 1") < 0 {
				t.Errorf("the other package is not complete: %q", log)
			}
		})
	}
}

func TestConflictChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.MkdirAll(filepath.Join(w.root, "opt/a"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.root, "opt/a/f"), []byte("the guest's"), 0o644))
	before := w.tree()
	g := w.open()
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/etc/a!": "c"}, allPhases...)
	_, err := g.Run(context.Background(), Change{Install: []Package{a}})
	var conflict *share.ConflictError
	if !errors.As(err, &conflict) || conflict.Path != "/opt/a/f" {
		t.Errorf("got %v, want a conflict at /opt/a/f", err)
	}
	w.must(g.Close())
	if d := difference(w.tree(), before); d != "" {
		t.Error(d)
	}
	if len(w.installed())+len(w.refs)+len(w.log()) > 0 {
		t.Errorf("something was installed, referred to or run")
	}
}

// TestReferences: the nest knows what is installed after every change, and is
// not told what it knows (G4).
func TestReferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v1, v2 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1"}), w.pkg("a", "2", map[string]string{"/opt/a/f": "2"})
	b := w.pkg("b", "1", map[string]string{"/opt/b/f": "1"})
	bad := w.pkg("bad", "1", map[string]string{"/opt/bad/f": "1"}, "pre:exit 1")
	for _, tt := range []struct {
		what   string
		change Change
		refs   []repo.Digest
		sent   int // besides attaching
	}{
		{"an install", Change{Install: []Package{v1}}, []repo.Digest{v1.Ref.ID}, 0},
		{"another", Change{Install: []Package{b}}, []repo.Digest{v1.Ref.ID, b.Ref.ID}, 0},
		{"an upgrade", upgrade(v1, v2), []repo.Digest{v2.Ref.ID, b.Ref.ID}, 1},
		{"a removal", Change{Remove: []repo.Digest{b.Ref.ID}}, []repo.Digest{v2.Ref.ID}, 1},
		{"a failure", Change{Install: []Package{bad, b}}, []repo.Digest{v2.Ref.ID, b.Ref.ID}, 0}, // b is attached anew
	} {
		w.sent = 0
		w.run(tt.change)
		if got, want := sorted(w.refs), sorted(tt.refs); !slices.Equal(got, want) || w.sent != tt.sent {
			t.Errorf("%s: references %v, sent %d times; want %v, %d times", tt.what, got, w.sent, want, tt.sent)
		}
	}
	// A nest that missed a removal learns it with the next install.
	w.refs = []repo.Digest{v1.Ref.ID, v2.Ref.ID, b.Ref.ID}
	c := w.pkg("c", "1", map[string]string{"/opt/c/f": "1"})
	w.run(Change{Install: []Package{c}})
	if want := sorted([]repo.Digest{v2.Ref.ID, b.Ref.ID, c.Ref.ID}); !slices.Equal(sorted(w.refs), want) {
		t.Errorf("afterwards: references %v, want %v", w.refs, want)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1"})
	w.run(Change{Install: []Package{a}})
	lua := w.pkg("lua", "1", map[string]string{"/opt/lua/f": "1"}, "post")
	lua.Record.Scriptlets[0].Interpreter = []string{scriptlet.Lua, "-x"}
	other := w.pkg("other", "1", nil)
	tests := []struct {
		name   string
		change Change
		want   string
	}{
		{"installed already", Change{Install: []Package{a}}, "installed already"},
		{"twice", Change{Install: []Package{other, other}}, "installed already"},
		{"removal of what is not there", Change{Remove: []repo.Digest{other.Ref.ID}}, "not installed"},
		{"removal twice", Change{Remove: []repo.Digest{a.Ref.ID, a.Ref.ID}}, "named twice"},
		{"no record", Change{Install: []Package{{Ref: other.Ref}}}, "record is missing"},
		{"arguments of lua", Change{Install: []Package{lua}}, "lua-1-1.noarch"},
	}
	for _, tt := range tests {
		g := w.open()
		_, err := g.Run(context.Background(), tt.change)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		w.must(g.Close())
	}
	if got := w.installed(); !slices.Equal(got, []string{"a-1-1.noarch"}) {
		t.Errorf("installed %q", got)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.open()
	defer g.Close()
	_, err := w.tryOpen(nil)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("got %v, want busy with pid %d", err, os.Getpid())
	}
	r, err := Open(context.Background(), Options{Root: w.root, ReadOnly: true})
	w.must(err)
	defer r.Close()
	if _, err := r.Run(context.Background(), Change{}); err == nil {
		t.Error("a guest opened for reading was changed")
	}
}

// TestNestDown: what is installed goes away without the nest; what is not can
// not come.
func TestNestDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1"})
	b := w.pkg("b", "1", map[string]string{"/opt/b/f": "1"})
	w.run(Change{Install: []Package{a}})
	w.down = true
	g := w.open()
	if _, err := g.Run(context.Background(), Change{Install: []Package{b}}); err == nil {
		t.Error("installed without a nest")
	}
	w.must(g.Close())
	out := w.run(Change{Remove: []repo.Digest{a.Ref.ID}})
	if len(out.Removed) != 1 || len(out.Warnings) != 1 {
		t.Errorf("got %+v", out)
	}
}

func TestReasonsAndReinstall(t *testing.T) {
	t.Parallel()
	for _, method := range []share.Method{share.Bind, share.Overlay, share.Copy} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			reinstall(t, method)
		})
	}
}

func reinstall(t *testing.T, method share.Method) {
	w := newWorld(t)
	w.method = method
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/etc/a!": "c"}, allPhases...)
	w.run(Change{Install: []Package{a}})
	w.run(Change{Reasons: map[repo.Digest]Reason{a.Ref.ID: ByDependency}})
	g := w.open()
	if got := g.State().Packages[0].Reason; got != ByDependency {
		t.Errorf("reason %q", got)
	}
	w.must(g.Close())
	before := w.tree()
	if method != share.Bind { // it can not be changed there
		w.write("opt/a/f", "changed")
	}
	w.write("etc/a", "edited")
	before["/etc/a"] = "edited"
	out := w.run(upgrade(a, a))
	if len(out.Failed)+len(out.Warnings) > 0 {
		t.Errorf("got %+v", out)
	}
	if d := difference(w.tree(), before); d != "" {
		t.Error(d)
	}
	w.write("etc/a", "c")
	if got := w.installed(); !slices.Equal(got, []string{"a-1-1.noarch"}) {
		t.Errorf("installed %q", got)
	}
}

// TestVerifyBeside: what is found while the guest is being changed is no
// finding.
func TestVerifyBeside(t *testing.T) {
	t.Parallel()
	for _, method := range []share.Method{share.Bind, share.Overlay} {
		w := newWorld(t)
		w.method = method
		a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1"}, "post:sleep 0.3")
		b := w.pkg("b", "1", map[string]string{"/opt/a/b": "b"})
		w.run(Change{Install: []Package{b}})
		old, err := Open(t.Context(), Options{Root: w.root, ReadOnly: true, Hooks: w.hooks()})
		w.must(err)
		hooks := w.hooks()
		var during error
		hooks.Progress = func(e Event) {
			if e.Step == StepScriptlet {
				_, during = old.Verify(t.Context())
			}
		}
		g, err := Open(t.Context(), Options{Root: w.root, Hooks: hooks})
		w.must(err)
		_, err = g.Run(t.Context(), w.by(Change{Install: []Package{a}}))
		w.must(err)
		w.must(g.Close())
		_, after := old.Verify(t.Context())
		if !errors.Is(during, ErrChanging) || !errors.Is(after, ErrChanging) {
			t.Errorf("%s: got %v and %v, want ErrChanging", method, during, after)
		}
		w.must(old.Close())
		if got := w.installed(); len(got) != 2 {
			t.Errorf("%s: installed %q", method, got)
		}
	}
}

// TestPaths: what an installed package has is known without the nest, but for
// what comes from an environment.
func TestPaths(t *testing.T) {
	t.Parallel()
	for _, method := range []share.Method{share.Bind, share.Overlay, share.Copy} {
		w := newWorld(t)
		w.method = method
		a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/g": "g", "/etc/a!": "c"})
		b := w.pkg("b", "1", map[string]string{"/opt/a/b": "b"})
		w.run(Change{Install: []Package{a, b}})
		for _, down := range []bool{false, true} {
			w.down = down
			g, err := Open(t.Context(), Options{Root: w.root, ReadOnly: true, Hooks: w.hooks()})
			w.must(err)
			got, err := g.Paths(t.Context(), g.State().Find(a.Ref.ID))
			short := down && method == share.Overlay
			if short != errors.Is(err, ErrLayer) || !short && err != nil {
				t.Errorf("%s, down %t: %v", method, down, err)
			}
			for _, p := range []string{"/opt/a/f", "/opt/a/g", "/etc/a"} {
				if has := slices.Contains(got, p); has != (!short || p == "/etc/a") {
					t.Errorf("%s, down %t: %s is listed: %t", method, down, p, has)
				}
			}
			if slices.Contains(got, "/opt/a/b") {
				t.Errorf("%s: another package's file is listed", method)
			}
			w.must(g.Close())
		}
	}
}

// TestMayMount: who only reads knows it too.
func TestMayMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, readOnly := range []bool{true, false} {
		g, err := Open(t.Context(), Options{Root: w.root, ReadOnly: readOnly})
		w.must(err)
		if !g.MayMount() {
			t.Errorf("read-only %t: the guest may not mount", readOnly)
		}
		w.must(g.Close())
	}
}

// TestMount: the mounts are gone with the guest's mount namespace; they come
// back, and what is right stays.
func TestMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/g/h": "2"})
	b := w.pkg("b", "1", map[string]string{"/opt/a/b": "b", "/opt/x/y": "y"})
	w.run(Change{Install: []Package{a, b}})
	before := w.tree()
	unmountBelow(t, filepath.Join(w.root, "opt"))
	w.must(os.RemoveAll(filepath.Join(w.root, "opt/x"))) // not durable when the host crashed
	g := w.open()
	w.must(g.Mount(context.Background()))
	w.must(g.Mount(context.Background()))
	w.must(g.Close())
	if d := difference(w.tree(), before); d != "" {
		t.Error(d)
	}
	w.installed()
}
