package share

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

const (
	insideChange = "STORK_TEST_CHANGE"
	insideRemove = "STORK_TEST_REMOVE"
	insideRoot   = "STORK_TEST_ROOT"
)

// TestInside: it is the guest's own root directory that is changed, as when
// stork runs in the guest.
func TestInside(t *testing.T) {
	if change := os.Getenv(insideChange); change != "" {
		placeInside(t, change)
		return
	}
	t.Parallel()
	for _, tt := range []struct {
		method Method
		locked bool // in a user namespace of its own, where the guest's mounts are locked
	}{{Bind, false}, {Bind, true}, {Overlay, false}, {Overlay, true}, {Symlink, false}, {Symlink, true}} {
		m := tt.method
		w := newGuest(t, Symlink)
		l := everything(w, "1")
		w.must(os.MkdirAll(filepath.Join(w.root, "proc"), 0o755))
		w.must(unix.Mount("/proc", filepath.Join(w.root, "proc"), "", unix.MS_BIND|unix.MS_REC, ""))
		env, _ := w.environment([]Layer{l}, map[string]string{"/bin": "/usr/bin"})
		view := func(p string) string { return strings.TrimPrefix(p, w.root) }
		for i := range env.Trees {
			env.Trees[i] = view(env.Trees[i])
		}
		seen := l
		seen.View = view(l.View)
		change, err := json.Marshal(Change{Method: m, Tag: "1", Add: []Layer{seen}, Next: env})
		w.must(err)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestInside$")
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if tt.locked {
			id := []syscall.SysProcIDMap{{Size: 65536}}
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
			cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = id, id
		}
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), insideChange+"="+string(change), insideRoot+"="+w.root)
		if tt.locked {
			cmd.Env = append(cmd.Env, insideRemove+"=1") // its mounts can not be seen from here
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s, locked %v: %v: %s", m, tt.locked, err, out)
		}
		if tt.locked {
			continue
		}
		other := newGuest(t, Bind)
		other.change(Bind, []Layer{everything(other, "1")})
		w.must(unix.Unmount(filepath.Join(w.root, "proc"), unix.MNT_DETACH))
		w.must(os.Remove(filepath.Join(w.root, "proc")))
		if d := difference(w.snapshot(), other.snapshot()); d != "" {
			t.Errorf("%s:\n%s", m, d)
		}
	}
}

func placeInside(t *testing.T, encoded string) {
	var change Change
	// Not before the program has started: the root has none of its libraries.
	err := errors.Join(unix.Chroot(os.Getenv(insideRoot)), os.Chdir("/"), json.Unmarshal([]byte(encoded), &change))
	root, openErr := OpenRoot("/", durable.Disk{})
	if err = errors.Join(err, openErr); err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	plan, err := MakePlan(t.Context(), root, nil, change)
	if err != nil {
		t.Fatal(err)
	}
	l := change.Add[0]
	views := map[repo.Digest]string{l.ID: l.View}
	if _, err := plan.Apply(t.Context(), root, 0, views); err != nil {
		t.Fatal(err)
	}
	if err := plan.Finish(root); err != nil {
		t.Fatal(err)
	}
	found, err := Check(t.Context(), root, []Placed{plan.Elements[0].Placed}, views)
	more, envErr := plan.Elements[0].Environment.Check(t.Context(), root)
	if err = errors.Join(err, envErr); err != nil || len(found)+len(more) > 0 {
		t.Errorf("problems %v %v, %v", found, more, err)
	}
	if change.Method == Overlay {
		checkBeside(t, root, plan.Elements[0].Environment)
	}
	if os.Getenv(insideRemove) != "" {
		removeInside(t, root, &plan.Elements[0], views)
	}
}

// checkBeside: who only looks disturbs nobody who is making an overlay, and
// leaves nothing behind.
func checkBeside(t *testing.T, root *Root, e *Environment) {
	o, err := root.openOwn(e.Upper)
	if err == nil {
		err = o.attach(root, baseName)
	}
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenRoot("/", durable.Disk{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for range 3 {
		if found, err := e.Check(t.Context(), second); err != nil || len(found) > 0 {
			t.Errorf("problems %v, %v", found, err)
		}
	}
	if st, err := o.attached.stat(); err != nil || !st.isMounted() {
		t.Errorf("what a transaction has mounted has gone: %v", err)
	}
	if list, err := os.ReadDir(storkDir); err != nil || slices.ContainsFunc(list, func(d os.DirEntry) bool { return strings.HasPrefix(d.Name(), "look-") }) {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if err := o.close(); err != nil {
		t.Error(err)
	}
}

func removeInside(t *testing.T, root *Root, e *Element, views map[repo.Digest]string) {
	const shared = "/usr/bin/app"
	if _, err := os.Stat(shared); err != nil {
		t.Error(err)
	}
	plan, err := MakePlan(t.Context(), root, []Placed{e.Placed}, Change{Method: e.Placed.Method, Tag: "2", Remove: []repo.Digest{e.ID}, Now: e.Environment})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), root, 0, views); err != nil {
		t.Fatal(err)
	}
	if err := plan.Finish(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(shared); err == nil {
		t.Errorf("%s is still there", shared)
	}
	table, err := root.mountTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table {
		if m.isOurs() || inTrees([]string{storkDir}, m.target) {
			t.Errorf("left on %s: %+v", m.target, m)
		}
	}
}

// TestRemovedDirectory: a shared directory that the guest's owner removes and
// makes again shows its own; once its package has gone and come again, it is
// shared as any other.
func TestRemovedDirectory(t *testing.T) {
	t.Parallel()
	for _, m := range overlays() {
		w := newGuest(t, m)
		stay, l := w.layer("stay", file("/usr/lib/stay", "s")), w.layer("p", file("/usr/lib/x/f", "f"), file("/usr/lib/x/g", "g"))
		w.change(m, []Layer{stay, l})
		at := filepath.Join(w.root, "usr/lib/x")
		w.must(os.RemoveAll(at))
		w.must(os.Mkdir(at, 0o755))
		w.must(os.Remove(filepath.Join(w.root, "usr/lib/stay")))
		if list, err := os.ReadDir(at); err != nil || len(list) > 0 {
			t.Fatalf("%s: %v, %v", m, list, err)
		}
		w.change(m, nil, l)
		w.change(m, []Layer{l})
		if got := w.read("usr/lib/x/f"); got != "f" {
			t.Errorf("%s: got %q", m, got)
		}
		if _, err := os.Lstat(filepath.Join(w.root, "usr/lib/stay")); err == nil {
			t.Errorf("%s: what the owner removed of another package is back", m)
		}
		w.change(m, nil, l, stay)
		for _, p := range []string{"usr/lib/stay", "usr/lib/x/f"} {
			if _, err := os.Lstat(filepath.Join(w.root, p)); err == nil {
				t.Errorf("%s: %s is left behind", m, p)
			}
		}
	}
}

// TestCopyBesideOverlay: without a nest, files are copied into a guest that
// has an environment, and go again.
func TestCopyBesideOverlay(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Overlay)
	empty := w.snapshot()
	shared := w.layer("shared", file("/usr/lib/shared", "s"), file("/usr/lib/x/f", "f"))
	w.change(Overlay, []Layer{shared})
	before := w.snapshot()
	copied := w.layer("copied", file("/usr/lib/copied", "c"), file("/usr/lib/shared", "s"), file("/opt/copied/f", "f"))
	place := func(add []Layer, remove ...repo.Digest) {
		t.Helper()
		plan, err := MakePlan(t.Context(), w.open(nil), w.placed, Change{Method: Copy, Tag: "7", Add: add, Remove: remove, Names: w.names, Now: &w.env})
		w.must(err)
		w.apply(plan, nil)
		w.commit(plan)
	}
	place([]Layer{copied})
	if got := w.read("usr/lib/copied") + w.read("opt/copied/f") + w.read("usr/lib/shared"); got != "cfs" {
		t.Errorf("got %q", got)
	}
	other := w.layer("other", file("/usr/lib/shared", "t"))
	_, err := MakePlan(t.Context(), w.open(nil), w.placed, Change{Method: Copy, Tag: "7", Add: []Layer{other}, Now: &w.env})
	if conflict := new(ConflictError); !errors.As(err, &conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	place(nil, copied.ID)
	if d := difference(w.snapshot(), before); d != "" {
		t.Errorf("after the copies are removed:\n%s", d)
	}
	w.change(Overlay, nil, shared)
	if d := difference(w.snapshot(), empty); d != "" {
		t.Errorf("after all is removed:\n%s", d)
	}
}
