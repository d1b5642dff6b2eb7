package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"stork/nestd/attachtest"
	"stork/repo"
)

// byNest is Bind in a guest without CAP_SYS_ADMIN, for which the nest makes the
// mounts.
const byNest Method = "placed by the nest"

const (
	placerArgument = "share-test-placer"
	nestSocket     = "STORK_TEST_NEST" // of the nest that places, outside of the namespace
)

// real is the method that a plan has.
func (m Method) real() Method {
	switch m {
	case nested:
		return Overlay
	case byNest:
		return Bind
	}
	return m
}

// serveNest starts the nest, which must not be in the namespace of the guests.
func serveNest() error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "share-test-")
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "nest.sock")
	return errors.Join(os.Chmod(dir, 0o755), attachtest.Serve(socket, "/proc/self/exe", placerArgument), os.Setenv(nestSocket, socket))
}

// placeByNest has the nest make all mounts.
func (w *world) placeByNest() {
	w.t.Helper()
	if os.Getenv(nestSocket) == "" {
		skipOrFail(w.t, "the nest needs root")
	}
	view := filepath.Join(w.root, inside, "nest")
	w.must(os.MkdirAll(view, 0o755))
	w.must(unix.Mount(view, view, "", unix.MS_BIND, "")) // as a runtime binds the nest's directory
	w.nestView = view
}

func skipOrFail(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// nestMounter asks the nest.
type nestMounter struct{ w *world }

// Change implements [Mounter].
func (n nestMounter) Change(_ context.Context, changes []MountChange) error {
	n.w.asked++
	r := attachtest.Request{Layers: n.w.view, View: n.w.nestView}
	for _, c := range changes {
		wire := attachtest.Change{Kind: attachtest.Kind(c.Kind), Path: filepath.Join(n.w.root, c.Path)}
		if c.Kind == MountPlace || c.Kind == MountReplace {
			wire.Layer, wire.Source = c.From.Layer.Hex(), c.From.Source
		}
		r.Changes = append(r.Changes, wire)
	}
	return attachtest.Ask(os.Getenv(nestSocket), r)
}

// confined runs act, in a guest whose mounts the nest makes, without
// CAP_SYS_ADMIN.
func (w *world) confined(act func()) {
	if w.nestView == "" {
		act()
		return
	}
	runtime.LockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before, without [2]unix.CapUserData
	w.must(unix.Capget(&head, &before[0]))
	without = before
	without[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	w.must(unix.Capset(&head, &without[0]))
	defer func() { // also if the test ends here
		if err := unix.Capset(&head, &before[0]); err != nil {
			w.t.Error(err) // the thread stays locked, and ends with the goroutine
			return
		}
		runtime.UnlockOSThread()
	}()
	if MayMount() {
		w.t.Error("the guest may mount, without CAP_SYS_ADMIN")
	}
	act()
}

// TestPlacedTogether: what goes together is asked for together.
func TestPlacedTogether(t *testing.T) {
	t.Parallel()
	w := newGuest(t, byNest)
	var files []repo.File
	for i := range 50 {
		files = append(files, file(fmt.Sprintf("/usr/lib/many%02d", i), "content"))
	}
	l := w.layer("many", append(files, file("/opt/x/f", "f"))...)
	w.change(byNest, []Layer{l})
	if w.asked != 1 {
		t.Errorf("%d requests for 51 mounts, want 1", w.asked)
	}
	if n := len(w.mounts()); n != 51 {
		t.Errorf("%d mounts, want 51", n)
	}
	for _, at := range slices.Backward(w.mounts()) { // the guest restarts
		w.must(unix.Unmount(at, unix.MNT_DETACH))
	}
	w.asked = 0
	w.confined(func() { w.must(Restore(t.Context(), w.open(nil), w.placed, w.views)) })
	if w.asked != 1 {
		t.Errorf("%d requests to bring back 51 mounts, want 1", w.asked)
	}
	if problems := w.problems(); len(problems) > 0 {
		t.Errorf("problems %q", problems)
	}
	w.asked = 0
	w.change(byNest, nil, l)
	if w.asked != 1 {
		t.Errorf("%d requests to take away 51 mounts, want 1", w.asked)
	}
	if n := len(w.mounts()); n != 0 {
		t.Errorf("%d mounts left", n)
	}
}

// TestNestRefuses: what the nest refuses is an error of the change, and what
// was placed before it is undone.
func TestNestRefuses(t *testing.T) {
	t.Parallel()
	w := newGuest(t, byNest)
	before := w.snapshot()
	l := w.layer("a", file("/usr/lib/a", "a"), file("/usr/lib/b", "b"))
	plan, err := w.plan(byNest, []Layer{l})
	w.must(err)
	missing := filepath.Join(l.View, "usr/lib/b")
	w.must(unix.Unmount(l.View, unix.MNT_DETACH))
	w.must(os.Remove(missing)) // from the layer, behind the guest's back
	w.must(os.WriteFile(missing, nil, 0o644))
	w.must(os.Remove(filepath.Join(l.View, "usr/lib/b")))
	w.must(os.Symlink("a", missing))
	if _, err := w.tryApply(plan, nil); err == nil {
		t.Fatal("nobody noticed")
	}
	w.undo(plan)
	if d := difference(w.snapshot(), before); d != "" {
		t.Errorf("after undo:\n%s", d)
	}
}
