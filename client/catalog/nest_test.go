package catalog_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/client/catalog"
	"stork/client/chain"
	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing"
)

// nest answers from a repository's tree as a nest does, and lies where a test
// says so.
type nest struct {
	t     *testing.T
	trees map[repo.Digest]string
	roots map[repo.Digest]repo.Object // index roots that it can be asked about
	calls [][]api.Query

	entry    func(*index.Entry)                        // changes every entry that it answers with
	document func(repo.Object, []byte) []byte          // changes every document that it shows
	answer   func(api.Query, *api.QueryResult)         // changes the answer to one query
	results  func([]api.QueryResult) []api.QueryResult // changes the list of answers
	unasked  [][]byte                                  // documents that come with every answer
	wrap     func(*files) catalog.Files                // shows a tree in another way
}

func newNest(t *testing.T, r *world.Repository, publishers ...*world.Publisher) *nest {
	n := &nest{t: t, trees: map[repo.Digest]string{r.Root: r.Tree}, roots: map[repo.Digest]repo.Object{}}
	for _, p := range publishers {
		n.roots[p.IndexRoot().Digest] = p.IndexRoot()
	}
	return n
}

// Files implements [catalog.Origin].
func (n *nest) Files(root repo.Digest) catalog.Files {
	f := &files{signing.Dir(n.trees[root]), n, n.trees[root]}
	if n.wrap != nil {
		return n.wrap(f)
	}
	return f
}

// Query implements [catalog.Origin].
func (n *nest) Query(ctx context.Context, request api.QueryRequest) (*api.QueryResponse, error) {
	n.calls = append(n.calls, request.Queries)
	if len(request.Queries) > api.MaxQueries {
		return nil, &api.Error{Code: api.TooLarge, Message: "too many queries"}
	}
	response := &api.QueryResponse{Results: []api.QueryResult{}}
	for _, q := range request.Queries {
		if len(q.Terms) > api.MaxTerms {
			return nil, &api.Error{Code: api.TooLarge, Message: "too many terms"}
		}
		result := api.QueryResult{Entries: []json.RawMessage{}}
		for _, tree := range n.trees {
			found, err := catalog.Scan(ctx, &files{signing.Dir(tree), &nest{}, tree}, n.roots[q.Index], q)
			if err != nil {
				return nil, err
			}
			for _, e := range found {
				if n.entry != nil {
					n.entry(&e)
				}
				b, err := repo.EncodeCanonical(e)
				if err != nil {
					return nil, err
				}
				result.Entries = append(result.Entries, b)
			}
		}
		if n.answer != nil {
			n.answer(q, &result)
		}
		response.Results = append(response.Results, result)
	}
	if n.results != nil {
		response.Results = n.results(response.Results)
	}
	if request.Documents {
		response.Documents = n.unasked
	}
	return response, nil
}

// files shows a tree, without checking anything.
type files struct {
	signing.Dir
	nest *nest
	tree string
}

// Document implements [index.Source].
func (f *files) Document(_ context.Context, o repo.Object) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.tree, repo.DataPath(o.Digest)))
	if err == nil && f.nest.document != nil {
		b = f.nest.document(o, b)
	}
	return b, err
}

// guest is whoever opens catalogs: its trust state outlives one catalog.
type guest struct {
	t     *testing.T
	dir   string
	pins  *api.Pins
	clock func() time.Time
	disk  durable.Disk
}

func newGuest(t *testing.T, r *world.Repository, owner *world.Publisher) *guest {
	return &guest{t: t, dir: world.TempDir(t), pins: owner.Pins(), clock: r.Now}
}

func (g *guest) open(n *nest) (*catalog.Catalog, error) {
	return catalog.Open(context.Background(), catalog.Options{Pins: g.pins, Origin: n, Verify: chain.Verify, TrustDir: g.dir, Disk: g.disk, Now: g.clock})
}

func (g *guest) mustOpen(n *nest) *catalog.Catalog {
	g.t.Helper()
	c, err := g.open(n)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// find returns what a query for names finds, as "publisher/nevra".
func find(t *testing.T, c *catalog.Catalog, names ...string) []*catalog.Candidate {
	t.Helper()
	found, err := c.Find(context.Background(), []api.Query{{Kind: api.ByName, Terms: names}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func describe(found []*catalog.Candidate) []string {
	var list []string
	for _, a := range found {
		list = append(list, string(a.Ref.Publisher)+"/"+a.Entry.NEVRA().String())
	}
	return list
}

// app is a package that needs another.
func app(version string) fixtures.Spec {
	return fixtures.Spec{
		Name: "app", Version: version, Summary: "An Example", Requires: []string{"lib >= 1"},
		Files: []fixtures.File{fixtures.Program("/usr/bin/app", "app "+version)},
	}
}

func lib(version string) fixtures.Spec {
	return fixtures.Spec{Name: "lib", Version: version, Provides: []string{"libx"}, Files: []fixtures.File{fixtures.Text("/usr/lib/x", version)}}
}
