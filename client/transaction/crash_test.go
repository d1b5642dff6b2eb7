package transaction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"stork/client/share"
	"stork/repo"
	"stork/repo/durable"
)

var errInjected = errors.New("injected")

// flavour is what happens at the k-th step.
type flavour struct {
	name  string
	after bool // the step is done, the error returned all the same
	crash bool // every later step fails too, as if the process had ended
}

var flavours = []flavour{
	{"not done, then crash", false, true},
	{"done, then crash", true, true},
	{"not done", false, false},
	{"done, error lost", true, false},
}

func (f flavour) at(k int, count *int) durable.Fault {
	return func(durable.Step, string) (error, error) {
		*count++
		switch {
		case *count == k && f.after:
			return nil, errInjected
		case *count == k, *count > k && f.crash:
			return errInjected, nil
		}
		return nil, nil
	}
}

// TestCrash fails every step of a transaction in every way. When the guest is
// opened again the old packages or the new ones are there, whole.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, method := range []share.Method{share.Bind, share.Overlay} {
		for _, scripts := range []bool{false, true} {
			for _, f := range flavours {
				t.Run(fmt.Sprintf("%s, scriptlets %v, %s", method, scripts, f.name), func(t *testing.T) {
					t.Parallel()
					crash(t, method, f, scripts)
				})
			}
		}
	}
}

func crash(t *testing.T, method share.Method, f flavour, scripts bool) {
	var phases []string
	if scripts {
		phases = []string{"pre", "post", "preun"}
	}
	var trees [2]map[string]string
	old, after := []string{"a-1-1.noarch", "c-1-1.noarch", "d-1-1.noarch"}, []string{"a-2-1.noarch", "b-1-1.noarch", "d-1-1.noarch"}
	seen := map[string]int{}
	step := 1
	if method != share.Bind && os.Getenv("CI") != "true" {
		step = 3
	}
	for k := 0; ; k += max(1, min(k, step)) {
		w := newWorld(t)
		w.method = method
		v1 := w.pkg("a", "1", map[string]string{"/opt/a/f": "1", "/opt/a/one": "1", "/etc/a!": "1", "/etc/keep!": "k"}, phases...)
		v2 := w.pkg("a", "2", map[string]string{"/opt/a/f": "2", "/opt/a/two": "2", "/etc/a!": "2", "/etc/keep!": "k2"}, phases...)
		b := w.pkg("b", "1", map[string]string{"/opt/d/b": "b", "/opt/b/f": "b"})
		c := w.pkg("c", "1", map[string]string{"/opt/c/f": "c", "/etc/c!": "c"}, phases...)
		d := w.pkg("d", "1", map[string]string{"/opt/d/f": "d", "/opt/d/sub/g": "g"})
		w.run(Change{Install: []Package{v1, c, d}})
		w.write("etc/keep", "changed")
		trees[0] = w.tree()
		change := upgrade(v1, v2)
		change.Install, change.Remove = append(change.Install, b), []repo.Digest{c.Ref.ID}
		count := 0
		if k == 0 {
			w.run(change)
			trees[1] = w.tree()
			unmountBelow(t, w.dir)
			continue
		}
		done := w.attempt(change, f.at(k, &count))
		got := w.lookAfter(t, k, trees, old, after)
		if seen[got]++; got == "part" && (!scripts || f.crash) {
			t.Errorf("step %d: neither old nor new", k)
		}
		unmountBelow(t, w.dir)
		if count < k {
			if !done || got != "new" {
				t.Errorf("undisturbed, but %s", got)
			}
			break
		}
	}
	t.Logf("ends: %v", seen)
	if seen["old"] == 0 || seen["new"] < 2 {
		t.Errorf("not every end was seen: %v", seen)
	}
}

// attempt runs a change under faults, from opening to closing.
func (w *world) attempt(c Change, fault durable.Fault) bool {
	g, err := w.tryOpen(fault)
	if err != nil {
		return false
	}
	defer g.Close()
	_, err = g.Run(context.Background(), w.by(c))
	return err == nil
}

func (w *world) lookAfter(t *testing.T, k int, trees [2]map[string]string, old, after []string) string {
	t.Helper()
	g, err := w.tryOpen(nil)
	if err != nil {
		t.Fatalf("step %d: cannot recover: %v", k, err)
	}
	var names []string
	for i := range g.State().Packages {
		names = append(names, g.State().Packages[i].NEVRA().String())
	}
	problems, err := g.Verify(context.Background())
	w.must(err)
	w.must(g.Close())
	for _, p := range problems {
		if p.Path != "/etc/keep" {
			t.Errorf("step %d: %s is %s", k, p.Path, p.What)
		}
	}
	tree := w.tree()
	switch {
	case slices.Equal(names, old):
		if d := difference(tree, trees[0]); d != "" {
			t.Fatalf("step %d: old, but\n%s", k, d)
		}
		return "old"
	case slices.Equal(names, after):
		if d := difference(tree, trees[1]); d != "" {
			t.Fatalf("step %d: new, but\n%s", k, d)
		}
		return "new"
	}
	return "part"
}
