package share

import (
	"fmt"
	"testing"
	"time"

	"stork/repo"
)

// TestOverlayTenThousandFiles: what a package costs whose environment is there
// already does not depend on its size.
func TestOverlayTenThousandFiles(t *testing.T) {
	w := newGuest(t, Overlay)
	for i := range 2000 {
		w.write(fmt.Sprintf("usr/lib/own/%02d/%d", i%50, i), "own")
	}
	var big []repo.File
	for i := range 10_000 {
		big = append(big, file(fmt.Sprintf("/usr/lib/big/%02d/%d", i%100, i), "content"))
	}
	first := w.layer("first", file("/usr/lib/first", "1"))
	for _, l := range []Layer{first, w.layer("big", big...), w.layer("small", file("/usr/lib/own/00/small", "s"))} {
		start := time.Now()
		plan, err := w.plan(Overlay, []Layer{l})
		w.must(err)
		built := time.Since(start)
		start = time.Now()
		c := Change{Method: Overlay, Tag: "7", Add: []Layer{l}, Names: w.names, Now: &w.env, Next: &plan.Elements[0].Ops[0].Swap.To}
		plan, err = MakePlan(t.Context(), w.open(nil), w.placed, c)
		w.must(err)
		planned := time.Since(start)
		start = time.Now()
		w.apply(plan, nil)
		applied := time.Since(start)
		t.Logf("%s: environment built in %v (by the test), planned in %v, applied in %v", l.Name, built, planned, applied)
		w.commit(plan)
	}
}
