package nest

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stork/fixtures"
	"stork/repo"
	repoapi "stork/repo/api"
)

// wish has the origin ask for packages.
func (o *origin) wish(packages ...repoapi.WarmPackage) {
	o.t.Helper()
	b, err := json.Marshal(repoapi.WarmList{Packages: packages})
	must(o.t, err)
	o.write(repoapi.WarmRoute[1:], b)
}

func (o *origin) wished(name string) repoapi.WarmPackage {
	return repoapi.WarmPackage{ID: o.ids[name], Name: repo.Name(name), Publisher: "alice"}
}

// TestWarm fetches what the repository asks for and is in its index, and
// nothing else.
func TestWarm(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	foreign := hello("foreign")
	foreign.Arch = "sparc"
	o.publish(hello("one"), hello("two"), hello("three"), foreign)
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	n.WarmBytes = 1 << 20
	w := n.repositories[o.root].warmer
	must(t, w.run(ctx)) // there is no list
	unknown, other, stranger := o.wished("one"), o.wished("one"), o.wished("three")
	unknown.ID = repo.DigestOf([]byte("unknown"))
	other.Name = "two"
	stranger.Publisher = "bob"
	o.wish(unknown, o.wished("one"), other, stranger, o.wished("foreign"), o.wished("two"))
	must(t, w.run(ctx))
	must(t, w.run(ctx)) // all there
	if got := o.blobRequests.Load(); got != 2 {
		t.Errorf("%d packages were fetched", got)
	}
	for name, want := range map[string]bool{"one": true, "two": true, "three": false, "foreign": false} {
		if _, there := n.Store.Layer(o.ids[name]); there != want {
			t.Errorf("%s is there: %v, want %v", name, there, want)
		}
	}
	entitled, err := n.State.Entitled(ctx, "g1")
	must(t, err)
	if len(entitled) != 0 {
		t.Errorf("a guest is entitled to %d layers that it did not ask for", len(entitled))
	}
	checkSound(t, n)
}

// TestWarmIsBounded asks for more than the nest's operator allows: what does
// not fit is left, and not tried again soon.
func TestWarmIsBounded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	large := func(name string, size int) fixtures.Spec {
		return fixtures.Spec{Name: name, Files: []fixtures.File{fixtures.Noise("/opt/"+name, size)}}
	}
	o.publish(large("a", 60_000), large("b", 60_000), large("c", 10_000))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	o.wish(o.wished("a"), o.wished("b"), o.wished("c"))
	w := n.repositories[o.root].warmer
	var lists atomic.Int64
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == repoapi.WarmRoute {
			lists.Add(1)
		}
	})
	w.start() // nothing is allowed: nothing is asked
	n.WarmBytes = 100_000
	var now atomic.Int64
	n.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	there := func() (names string) {
		for _, name := range []string{"a", "b", "c"} {
			if _, ok := n.Store.Layer(o.ids[name]); ok {
				names += name
			}
		}
		return names
	}
	must(t, w.run(ctx))
	if there() != "ac" || lists.Load() != 1 {
		t.Errorf("%q are there, the list was asked for %d times", there(), lists.Load())
	}
	// A guest uses one of them: then there would be room, but not yet another try.
	_, err := prepareAll(n, "g1", o, "a")
	must(t, err)
	must(t, n.State.SetReferences(ctx, "g1", []repo.Digest{o.ids["a"]}))
	must(t, w.run(ctx))
	if there() != "ac" {
		t.Errorf("%q are there, tried again at once", there())
	}
	now.Store(int64(warmAgain/time.Second) + 1)
	must(t, w.run(ctx))
	if there() != "abc" {
		t.Errorf("%q are there an hour later", there())
	}
}

// TestWarmHostileLists reads lists that are none.
func TestWarmHostileLists(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	refreshed(t, n)
	n.WarmBytes = 1 << 20
	w := n.repositories[o.root].warmer
	many := make([]repoapi.WarmPackage, repoapi.MaxWarm+1)
	for i := range many {
		many[i] = o.wished("one")
	}
	tooMany, err := json.Marshal(repoapi.WarmList{Packages: many})
	must(t, err)
	for name, text := range map[string]string{
		"no JSON": "hello", "empty": "", "unknown field": `{"packages":[],"more":1}`, "data after it": `{"packages":[]}{}`,
		"bad name":  `{"packages":[{"id":"` + o.ids["one"].String() + `","name":"../x","publisher":"alice"}]}`,
		"too large": `{"packages":[` + strings.Repeat(" ", repoapi.MaxWarmList) + `]}`, "too many": string(tooMany),
	} {
		o.write(repoapi.WarmRoute[1:], []byte(text))
		if err := w.run(context.Background()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if o.blobRequests.Load() != 0 {
		t.Error("something was fetched")
	}
}
