package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// manyEntries makes entries like a distribution's: each with four provides,
// eight requires and a path.
func manyEntries(packages int) []index.Entry {
	random := rand.New(rand.NewPCG(1, 2))
	entries := make([]index.Entry, packages)
	for i := range entries {
		name := fmt.Sprintf("package-%05d", i)
		version := repo.EVR{Version: "1.2.3", Release: "1"}
		e := index.Entry{
			Name: repo.Name(name), Version: "1.2.3", Release: "1", Arch: "x86_64", Summary: "A package that does what " + name + " does",
			Record: repo.ObjectOf([]byte(name)), BlobSize: 1000, InstalledSize: 2000, Paths: []string{"/usr/bin/" + name},
			Provides: []repo.Capability{
				{Name: name, Op: repo.Equal, EVR: version}, {Name: name + "(x86-64)", Op: repo.Equal, EVR: version},
				{Name: "config(" + name + ")", Op: repo.Equal, EVR: version}, {Name: fmt.Sprintf("lib%s.so.%d()(64bit)", name, i%7)},
			},
		}
		for range 8 {
			e.Requires = append(e.Requires, fmt.Sprintf("libpackage-%05d.so.%d()(64bit)", random.IntN(packages), random.IntN(7)))
		}
		entries[i] = e
	}
	return entries
}

func queryNames(t testing.TB, n *Nest, root repo.Digest, name string) int {
	t.Helper()
	response, err := n.Query(context.Background(), "g1", api.QueryRequest{Queries: []api.Query{{Index: root, Kind: api.ByName, Terms: []string{name}}}})
	if err != nil {
		t.Fatal(err)
	}
	return len(response.Results[0].Entries)
}

// TestIndexByPackAndByShards takes an index with a pack, then an extended one
// shard by shard, and one whose pack is damaged.
func TestIndexByPackAndByShards(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publishEntries(manyEntries(2000))
	o.writePack()
	var documents, packs atomic.Int64
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/data/"):
			documents.Add(1)
		case strings.HasPrefix(r.URL.Path, "/packs/"):
			packs.Add(1)
		}
	})
	n := startNest(t, o)
	refreshed(t, n)
	if want := int64(1 + len(o.index.Root.Tables)); packs.Load() != 1 || documents.Load() != want {
		t.Errorf("first index took %d packs and %d documents, want 1 and %d", packs.Load(), documents.Load(), want)
	}
	first := o.index.Object.Digest
	if got := queryNames(t, n, first, "package-01234"); got != 1 {
		t.Errorf("%d entries", got)
	}
	documents.Store(0)
	o.publish(hello("one"))
	refreshed(t, n)
	if documents.Load() > 3 || packs.Load() != 1 {
		t.Errorf("a delta of one package took %d documents and %d packs", documents.Load(), packs.Load()-1)
	}
	if queryNames(t, n, o.index.Object.Digest, "one") != 1 || queryNames(t, n, first, "one") != 0 {
		t.Error("the delta is not where it belongs")
	}

	other := startNest(t, o)
	o.write(repo.PackPath(o.index.Object.Digest), []byte("damaged"))
	refreshed(t, other)
	if got := queryNames(t, other, o.index.Object.Digest, "package-01234"); got != 1 {
		t.Errorf("with a damaged pack: %d entries", got)
	}
}

// TestDamagedIndexIsNotShown serves a shard that is not what the table says.
func TestDamagedIndexIsNotShown(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	status := refreshed(t, n)
	o.publish(hello("two"))
	shard := o.index.Shards()[0]
	good := o.docs[shard.Digest]
	o.write(repo.DataPath(shard.Digest), append([]byte(nil), good[:len(good)-1]...))
	list, err := n.Refresh(context.Background())
	must(t, err)
	if list[0].Error == "" || list[0].Version != status.Version {
		t.Errorf("a snapshot with a damaged index is shown: %+v", list[0])
	}
	if _, err := prepareDry(n, o, "one"); err != nil {
		t.Errorf("the old snapshot is gone: %v", err)
	}
	if _, err := prepareDry(n, o, "two"); err == nil {
		t.Error("a package of a snapshot that is not shown was admitted")
	}
	o.write(repo.DataPath(shard.Digest), good)
	refreshed(t, n)
}

// TestUnchangedCostsTwoRequests asks for the timestamp and the next root, and
// for nothing else.
func TestUnchangedCostsTwoRequests(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	refreshed(t, n)
	var requests atomic.Int64
	o.onRequest(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	refreshed(t, n)
	if got := requests.Load(); got != 2 {
		t.Errorf("%d requests", got)
	}
}

// TestWrongRootIsRefused follows a repository whose root is not the pinned
// one.
func TestWrongRootIsRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	o.root = repo.DigestOf([]byte("another root"))
	n := startNest(t, o)
	list, err := n.Refresh(context.Background())
	must(t, err)
	if list[0].Error == "" || list[0].Version != 0 {
		t.Errorf("status: %+v", list[0])
	}
	if _, err := n.Read(context.Background(), o.root, repo.TimestampPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("shown all the same: %v", err)
	}
}

// TestDamagedDocumentComesAgain damages a cached record on disk.
func TestDamagedDocumentComesAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	refreshed(t, n)
	path := repo.DataPath(o.ids["one"])
	good, err := n.Read(context.Background(), o.root, path)
	must(t, err)
	cached := n.documents.path(o.ids["one"])
	must(t, os.WriteFile(cached, []byte("damaged"), 0o600))
	again, err := n.Read(context.Background(), o.root, path)
	if err != nil || string(again) != string(good) {
		t.Errorf("%q, %v", again, err)
	}
	if _, err := os.Stat(filepath.Dir(cached)); err != nil {
		t.Error(err)
	}
}

// BenchmarkFirstIndex measures the first index of 60 000 packages, all in:
// download, verify, decode, insert, show.
func BenchmarkFirstIndex(b *testing.B) {
	entries := manyEntries(60000)
	o := newOrigin(b)
	o.publishEntries(entries)
	o.writePack()
	for b.Loop() {
		b.StopTimer()
		n, err := openNestAt(context.Background(), b.TempDir(), o.pin(), noFaults, discard{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start := time.Now()
		if list, err := n.Refresh(context.Background()); err != nil || list[0].Error != "" {
			b.Fatal(list, err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/index")
		b.StopTimer()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
