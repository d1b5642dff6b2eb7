package nest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/nestd/internal/fetch/transfer"
)

// TestPrefetch places packages before a guest asks for them: then they are
// there, and it is entitled to none that it did not ask for.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	older, foreign := hello("one"), hello("foreign")
	older.Version, foreign.Arch = "0.9", "sparc"
	o.publish(older, hello("two"), foreign)
	old := o.ids["one"]
	o.publish(hello("one"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	got, err := n.Prefetch(ctx, api.PrefetchRequest{Packages: []string{
		"one", "alice/two", "one=0.9", "absent", "bob/one", "foreign", "one=7", "../x", "a/b/c", "one=", "",
	}})
	must(t, err)
	want := []api.Code{"", "", "", api.NotFound, api.NotFound, api.NotFound, api.NotFound, api.BadRequest, api.BadRequest, api.BadRequest, api.BadRequest}
	for i, p := range got {
		code := api.Code("")
		if p.Error != nil {
			code = p.Error.Code
		}
		if code != want[i] || code == "" && (p.Cached || p.Fetched == 0 || p.Publisher != "alice" || !strings.HasPrefix(p.NEVRA, "one-") && !strings.HasPrefix(p.NEVRA, "two-")) {
			t.Errorf("%q: %+v, %v, want %q", p.Package, p, p.Error, want[i])
		}
	}
	if *got[0].ID != o.ids["one"] || *got[2].ID != old || *got[1].ID != o.ids["two"] {
		t.Errorf("%v came", got[:3])
	}
	prepared, err := prepareAll(n, "g1", o, "one")
	if err != nil || !prepared["one"].Cached {
		t.Errorf("a guest that asks then: %+v, %v", prepared, err)
	}
	requests := o.blobRequests.Load()
	again, err := n.Prefetch(ctx, api.PrefetchRequest{Packages: []string{"one"}})
	if err != nil || !again[0].Cached || again[0].Fetched != 0 || o.blobRequests.Load() != requests {
		t.Errorf("again: %+v, %v", again, err)
	}
	entitled, err := n.State.Entitled(ctx, "g1")
	must(t, err)
	if !entitled[o.ids["one"]] || len(entitled) != 1 {
		t.Errorf("the guest is entitled to %d layers", len(entitled))
	}
	checkSound(t, n)
}

// TestPrefetchLeft stops waiting: the job ends, for nobody waits for it.
func TestPrefetchLeft(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(fixtures.Spec{Name: "one"})
	n := startNest(t, o)
	refreshed(t, n)
	ctx, cancel := context.WithCancel(context.Background())
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
		}
	})
	if _, err := n.Prefetch(ctx, api.PrefetchRequest{Packages: []string{"one"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	if len(n.jobs.running) != 0 {
		t.Errorf("%d jobs go on", len(n.jobs.running))
	}
}

// TestPrefetchRaised lets a guest ask for what is being prefetched: it waits
// for the same download, which goes first from then on.
func TestPrefetchRaised(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(fixtures.Spec{Name: "one", Files: []fixtures.File{fixtures.Noise("/opt/one", 100_000)}})
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blobs/") {
			once.Do(func() { close(asked) })
			<-goOn
		}
	})
	var prefetched []api.Prefetched
	var group errgroup.Group
	group.Go(func() (err error) {
		prefetched, err = n.Prefetch(context.Background(), api.PrefetchRequest{Packages: []string{"one"}})
		return err
	})
	<-asked
	n.jobs.mu.Lock()
	j := n.jobs.running[o.ids["one"]]
	n.jobs.mu.Unlock()
	if j == nil || j.priority() != transfer.Background {
		t.Fatalf("what nobody waits for is %+v", j)
	}
	group.Go(func() error {
		_, err := prepareAll(n, "g1", o, "one")
		return err
	})
	select {
	case <-j.wanted:
	case <-time.After(10 * time.Second):
		t.Error("that a guest waits is not seen")
	}
	close(goOn)
	must(t, group.Wait())
	if prefetched[0].Error != nil || o.blobRequests.Load() != 1 {
		t.Errorf("%+v in %d requests", prefetched[0], o.blobRequests.Load())
	}
}
