package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// spoil changes shared files of everything in all ways.
func spoil(w *world) {
	w.t.Helper()
	at := func(p string) string { return filepath.Join(w.root, p) }
	w.write("opt/app/share/version", "changed") // copied up
	w.must(os.Chmod(at("opt/app/share/same"), 0o600))
	w.must(os.Remove(at("usr/bin/app")))
	w.must(os.Remove(at("opt/app/current")))
	w.must(os.Symlink("elsewhere", at("opt/app/current")))
	w.must(os.RemoveAll(at("opt/app/closed")))
	w.must(os.RemoveAll(at("usr/lib/app/team"))) // made again, it hides what was there
	w.must(os.Mkdir(at("usr/lib/app/team"), 0o755))
	w.must(os.Chown(at("usr/lib/app/team"), 0, 5))
	w.must(unix.Chmod(at("usr/lib/app/team"), 0o2775))
	w.must(os.Remove(at("usr/lib/libapp.so.1")))
	w.write("usr/lib/app/own", "the guest's")
}

// TestReinstall: what the guest has changed of the shared files of a package
// is as it was when that is installed again; what is not the package's stays,
// and so does its edited configuration.
func TestReinstall(t *testing.T) {
	t.Parallel()
	for _, m := range overlays() {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", m, after), func(t *testing.T) {
				t.Parallel()
				w := newGuest(t, m)
				w.write("usr/lib/app/one", "linked") // the guest's own, and the same
				app, other := everything(w, "1"), w.layer("other", file("/opt/app/share/other", "other"))
				w.change(m, []Layer{app, other})
				w.write("usr/lib/app/own", "the guest's")
				w.write("etc/app.keep", "edited")
				want := w.snapshot()
				spoil(w)
				w.write("opt/app/share/other", "changed, and not of the package")
				want["/opt/app/share/other"] = w.snapshot()["/opt/app/share/other"]
				spoiled := w.snapshot()

				plan, err := w.plan(m, []Layer{app}, app)
				w.must(err)
				if d := difference(w.snapshot(), spoiled); d != "" {
					t.Fatalf("planning changed:\n%s", d)
				}
				w.eachFault(plan, after, spoiled)
				w.apply(plan, nil)
				w.commit(plan)
				if d := difference(w.snapshot(), want); d != "" {
					t.Errorf("after reinstalling:\n%s", d)
				}
				found, err := w.env.Check(t.Context(), w.open(nil))
				w.must(err)
				if len(found) != 1 || found[0].Path != "/opt/app/share/other" {
					t.Errorf("problems %v", found)
				}

				// The mounts are the new ones for all that comes.
				for _, dir := range w.env.Roots {
					w.must(unix.Unmount(filepath.Join(w.root, dir), unix.MNT_DETACH))
				}
				w.must(w.env.Restore(t.Context(), w.open(nil)))
				w.change(m, []Layer{app}, app)
				if d := difference(w.snapshot(), want); d != "" {
					t.Errorf("with nothing to restore:\n%s", d)
				}
				w.write("opt/app/share/version", "changed")
				w.change(m, []Layer{app}, app)
				w.change(m, nil, app, other)
				if got := w.read("usr/lib/app/one") + w.read("usr/lib/app/own"); got != "linkedthe guest's" {
					t.Errorf("after removal: %q", got)
				}
			})
		}
	}
}

// TestReinstallConflict: a directory that the guest has made in place of a
// file is not removed.
func TestReinstallConflict(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Overlay)
	app := w.layer("app", file("/opt/app/file", "f"))
	w.change(Overlay, []Layer{app})
	w.must(os.Remove(filepath.Join(w.root, "opt/app/file")))
	w.write("opt/app/file/mine", "mine")
	_, err := w.plan(Overlay, []Layer{app}, app)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || *conflict != (ConflictError{"/opt/app/file", "app", theGuest}) {
		t.Errorf("got %v, want a conflict", err)
	}
}
