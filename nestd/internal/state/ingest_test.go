package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// bigIndex makes an index like a distribution's: each package with four
// provides, eight requires and a path.
func bigIndex(t testing.TB, packages int) (*index.Tree, index.Documents) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	entries := make([]index.Entry, packages)
	for i := range entries {
		name := fmt.Sprintf("package-%05d", i)
		e := entry(name, "1.2.3", func(e *index.Entry) {
			e.Provides = []repo.Capability{
				capability(t, name+" = 1.2.3-1"), capability(t, name+"(x86-64) = 1.2.3-1"),
				capability(t, fmt.Sprintf("lib%s.so.%d()(64bit)", name, i%7)), capability(t, fmt.Sprintf("config(%s) = 1.2.3-1", name)),
			}
			for range 8 {
				e.Requires = append(e.Requires, fmt.Sprintf("libpackage-%05d.so.%d()(64bit)", random.IntN(packages), random.IntN(7)))
			}
			e.Paths = []string{"/usr/bin/" + name}
			e.Summary = "A package that does what " + name + " does"
		})
		entries[i] = e
	}
	tree, docs, err := index.New("alice", repository)
	must(t, err)
	next, added, err := tree.Extend(ctx, entries)
	must(t, err)
	for d, text := range added {
		docs[d] = text
	}
	return next, docs
}

// ingest parses beside each other and inserts in one transaction, as the nest
// does.
func ingest(t testing.TB, s *State, tree *index.Tree, docs index.Documents) {
	t.Helper()
	missing, err := s.MissingShards(ctx, tree.Root.Bits, tree.Shards())
	must(t, err)
	shards := make([]*Shard, len(missing))
	g, _ := errgroup.WithContext(context.Background())
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, n := range missing {
		g.Go(func() (err error) {
			o := tree.Shards()[n]
			shards[i], err = ParseShard(docs[o.Digest], o, n, tree.Root.Bits)
			return err
		})
	}
	must(t, g.Wait())
	must(t, s.AddShards(ctx, shards))
	addIndex(t, s, tree, docs)
}

func TestIngestManyThenDelta(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := bigIndex(t, 3000)
	ingest(t, s, tree, docs)
	must(t, s.ShowIndexes(ctx, repository, []repo.Digest{tree.Object.Digest}, nil))
	if n := count(t, s, "packages"); n != 3000 {
		t.Fatalf("%d packages", n)
	}
	next := extend(t, tree, docs, entry("package-00007", "2"), entry("another", "1"))
	missing, err := s.MissingShards(ctx, next.Root.Bits, next.Shards())
	must(t, err)
	if len(missing) == 0 || len(missing) > 2 {
		t.Errorf("a delta of two packages needs %d shards", len(missing))
	}
	ingest(t, s, next, docs)
	must(t, s.ShowIndexes(ctx, repository, []repo.Digest{next.Object.Digest}, nil))
	for digest, want := range map[repo.Digest]string{tree.Object.Digest: "package-00007-1.2.3", next.Object.Digest: "package-00007-1.2.3 package-00007-2"} {
		result, err := s.Query(ctx, api.Query{Index: digest, Kind: api.ByName, Terms: []string{"package-00007"}})
		must(t, err)
		if got := names(t, result); got != want {
			t.Errorf("index %s: got %q, want %q", digest.Short(), got, want)
		}
	}
}

// BenchmarkFirstIndex measures the nest's first index of 60 000 packages,
// but for the download.
func BenchmarkFirstIndex(b *testing.B) {
	tree, docs := bigIndex(b, 60000)
	var bytes int64
	for _, o := range tree.Shards() {
		bytes += o.Size
	}
	for b.Loop() {
		s := open(b)
		start := time.Now()
		ingest(b, s, tree, docs)
		b.ReportMetric(time.Since(start).Seconds(), "s/index")
		b.ReportMetric(float64(bytes)/1e6, "MB")
	}
}

func BenchmarkQueries(b *testing.B) {
	tree, docs := bigIndex(b, 60000)
	s := open(b)
	ingest(b, s, tree, docs)
	for _, q := range []api.Query{
		{Kind: api.ByName, Terms: []string{"package-00007"}},
		{Kind: api.ByCapability, Terms: []string{"libpackage-00007.so.0()(64bit)"}},
		{Kind: api.ByGlob, Terms: []string{"*-0000*"}},
		{Kind: api.ByRequires, Terms: []string{"libpackage-00007.so.0()(64bit)"}},
		{Kind: api.ByText, Terms: []string{"package-00007"}},
	} {
		q.Index = tree.Object.Digest
		b.Run(string(q.Kind), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Query(ctx, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
