package nest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/fixtures"
	"stork/repo"
)

// TestManyPackagesAtOnce names more packages in one request than are worked
// on at a time: all come, and no more records than that are read beside each
// other.
func TestManyPackagesAtOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var specs []fixtures.Spec
	var names []string
	for i := range 2*maxBuilds + 1 {
		names = append(names, fmt.Sprintf("p%02d", i))
		specs = append(specs, fixtures.Spec{Name: names[i]})
	}
	o.publish(specs...)
	records := map[string]bool{}
	for _, id := range o.ids {
		records["/"+repo.DataPath(id)] = true
	}
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	var mu sync.Mutex
	now, most := 0, 0
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if !records[strings.TrimSuffix(r.URL.Path, "/")] {
			return
		}
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
	})
	got, err := prepareAll(n, "g1", o, names...)
	must(t, err)
	if len(got) != len(names) || most < 2 || most > maxBuilds {
		t.Errorf("%d of %d packages, %d records at a time; want all, at most %d", len(got), len(names), most, maxBuilds)
	}
	checkSound(t, n)
}
