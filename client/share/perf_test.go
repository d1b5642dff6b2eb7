package share

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// TestOverlayTenThousandFiles: what a package costs whose environment is there
// already does not depend on its size. The times are logged; the bound is only
// there to notice when every file is looked at.
func TestOverlayTenThousandFiles(t *testing.T) {
	for _, fs := range []string{"tmpfs", "disk"} {
		t.Run(fs, func(t *testing.T) {
			if fs == "disk" && os.Getenv("CI") != "true" {
				t.Skip("takes seconds: set CI=true")
			}
			tenThousand(t, newWorldOn(t, fs))
		})
	}
}

func tenThousand(t *testing.T, w *world) {
	w.must(os.MkdirAll(filepath.Join(w.root, kept), 0o755))
	for i := range 2000 {
		w.write(fmt.Sprintf("usr/lib/own/%02d/%d", i%50, i), "own")
	}
	var big []repo.File
	for i := range 10_000 {
		big = append(big, file(fmt.Sprintf("/usr/lib/big/%02d/%d", i%100, i), "content"))
	}
	first := w.layer("first", file("/usr/lib/first", "1"))
	for _, l := range []Layer{first, w.layer("big", big...), w.layer("small", file("/usr/lib/own/00/small", "s"))} {
		plan, err := w.plan(Overlay, []Layer{l}) // has the environment built
		w.must(err)
		c := Change{Method: Overlay, Tag: "7", Add: []Layer{l}, Names: w.names, Now: &w.env, Next: plan.Elements[0].Environment}
		unix.Sync() // what the test has written is not to be waited for
		start := time.Now()
		plan, err = MakePlan(t.Context(), w.open(nil), w.placed, c)
		w.must(err)
		planned := time.Since(start)
		w.apply(plan, nil)
		took := time.Since(start)
		t.Logf("%s: planned in %v, applied in %v", l.Name, planned, took-planned)
		w.commit(plan)
		if took > 500*time.Millisecond {
			t.Errorf("%s took %v", l.Name, took)
		}
	}
}
