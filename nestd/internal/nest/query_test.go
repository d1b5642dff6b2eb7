package nest

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/nestd/api"
	"stork/repo"
)

// TestQueryReady: with its answer a guest hears, and may have, what the host
// has of the packages it found, as from a dry run of prepare; another guest
// does only if it asks itself.
func TestQueryReady(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	o.publish(hello("one"), hello("two"))
	n := startNest(t, o)
	for _, guest := range []string{"g1", "g2", "g3", "nobody"} {
		addGuest(t, n, guest)
	}
	refreshed(t, n)
	_, err := prepareAll(n, "g1", o, "one")
	must(t, err)
	ask := func(guest string, ready bool) []api.Prepared {
		t.Helper()
		response, err := n.Query(ctx, guest, api.QueryRequest{Ready: ready, Documents: true,
			Queries: []api.Query{{Index: o.index.Object.Digest, Kind: api.ByGlob, Terms: []string{"*"}}}})
		must(t, err)
		if len(response.Results[0].Entries) != 2 {
			t.Errorf("%d entries", len(response.Results[0].Entries))
		}
		return response.Ready
	}
	entitled := func(guest, name string) bool {
		t.Helper()
		missing, err := n.State.NotEntitled(ctx, guest, []repo.Digest{o.ids[name]})
		must(t, err)
		return len(missing) == 0
	}
	got := ask("g2", true)
	dry, err := prepareDry(n, o, "one")
	must(t, err)
	if d := cmp.Diff([]api.Prepared{dry}, got); d != "" {
		t.Errorf("(-dry run of prepare +query)\n%s", d)
	}
	if ready := ask("g3", false); ready != nil {
		t.Errorf("who did not ask heard %v", ready)
	}
	if !entitled("g2", "one") || entitled("g2", "two") || entitled("g3", "one") {
		t.Error("entitled are others than those who asked, or to what is not there")
	}
}
