package nest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/fixtures"
)

// TestPackagesInParallel has one guest ask for four packages: they are fetched
// beside each other, and unpacked as many at a time as there may be.
func TestPackagesInParallel(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var specs []fixtures.Spec
	var names []string
	for i := range 4 {
		spec := fixtures.Spec{Name: fmt.Sprintf("p%d", i)}
		for j := range 1500 {
			spec.Files = append(spec.Files, fixtures.Text(fmt.Sprintf("/opt/%s/%d", spec.Name, j), fmt.Sprintf("%d of %d", j, i)))
		}
		specs, names = append(specs, spec), append(names, spec.Name)
	}
	o.publish(specs...)
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)

	// No blob comes before all are asked for: one after another they would
	// never come.
	var mu sync.Mutex
	asked, all := map[string]bool{}, make(chan struct{})
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/blobs/") {
			return
		}
		mu.Lock()
		if !asked[r.URL.Path] {
			if asked[r.URL.Path] = true; len(asked) == len(names) {
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all:
		case <-r.Context().Done():
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err := prepareAll(n, "g1", o, names...)
		if err != nil || len(got) != len(names) {
			t.Errorf("%d packages, %v", len(got), err)
		}
	}()
	most := 0
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		select {
		case <-done:
			t.Logf("four packages of 1500 files in %s, %d at a time", time.Since(start).Round(time.Millisecond), most)
			if most != maxUnpacks {
				t.Errorf("%d unpacked at a time, want %d", most, maxUnpacks)
			}
			checkSound(t, n)
			return
		default:
			most = max(most, len(n.jobs.unpacks.all))
		}
	}
}
