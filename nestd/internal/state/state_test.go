package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

func open(t testing.TB) *State {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: filepath.Join(t.TempDir(), "state ?.db"), Now: func() time.Time { return time.Unix(1e9, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	repository = repo.DigestOf([]byte("repository"))
	ctx        = context.Background()
)

// entry makes an index entry; the options change it.
func entry(name, version string, options ...func(*index.Entry)) index.Entry {
	record := []byte("record of " + name + " " + version)
	e := index.Entry{
		Name: repo.Name(name), Version: version, Release: "1", Arch: repo.NoArch, Summary: "The " + name + " program",
		Record: repo.ObjectOf(record), BlobSize: 1000, InstalledSize: 2000,
	}
	for _, o := range options {
		o(&e)
	}
	return e
}

func capability(t testing.TB, s string) repo.Capability {
	t.Helper()
	c, err := repo.ParseCapability(s)
	must(t, err)
	return c
}

// addIndex puts an index into the database as the nest does.
func addIndex(t testing.TB, s *State, tree *index.Tree, docs index.Documents) {
	t.Helper()
	missing, err := s.MissingShards(ctx, tree.Root.Bits, tree.Shards())
	must(t, err)
	var shards []*Shard
	for _, n := range missing {
		o := tree.Shards()[n]
		shard, err := ParseShard(docs[o.Digest], o, n, tree.Root.Bits)
		must(t, err)
		shards = append(shards, shard)
	}
	must(t, s.AddShards(ctx, shards))
	documents := index.Documents{tree.Object.Digest: docs[tree.Object.Digest]}
	for _, o := range tree.Root.Tables {
		documents[o.Digest] = docs[o.Digest]
	}
	must(t, s.AddIndex(ctx, Index{
		Object: tree.Object, Repository: repository, Publisher: "alice", Bits: tree.Root.Bits, Shards: tree.Shards(), Documents: documents,
	}))
}

func extend(t testing.TB, tree *index.Tree, docs index.Documents, entries ...index.Entry) *index.Tree {
	t.Helper()
	next, added, err := tree.Extend(ctx, entries)
	must(t, err)
	for d, text := range added {
		docs[d] = text
	}
	return next
}

func names(t testing.TB, r api.QueryResult) string {
	t.Helper()
	var list []string
	for _, raw := range r.Entries {
		var e index.Entry
		must(t, repo.DecodeCanonical(raw, &e))
		list = append(list, string(e.Name)+"-"+e.Version)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func sample(t testing.TB) (*index.Tree, index.Documents) {
	t.Helper()
	tree, docs, err := index.New("alice", repository)
	must(t, err)
	docs = index.Documents(docs)
	return extend(t, tree, docs,
		entry("web", "1", func(e *index.Entry) {
			e.Provides = []repo.Capability{capability(t, "webserver = 2"), capability(t, "webserver = 3")}
			e.Paths = []string{"/usr/bin/web"}
			e.Requires = []string{"libc.so.6(GLIBC_2.34)(64bit)", "(tls if crypto)"}
		}),
		entry("web", "2", func(e *index.Entry) { e.Obsoletes = []repo.Capability{capability(t, "oldweb < 2")} }),
		entry("webby", "1", func(e *index.Entry) { e.RequiresPre = []string{"web >= 1"}; e.Summary = "Café \"quoted\" tool" }),
		entry("lang-de", "1", func(e *index.Entry) { e.Supplements = []string{"(web and german)"} }),
		entry("theme", "1", func(e *index.Entry) { e.Enhances = []string{"web"} }),
	), docs
}

func TestQueries(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := sample(t)
	addIndex(t, s, tree, docs)
	for _, test := range []struct {
		kind  api.QueryKind
		terms []string
		want  string
	}{
		{api.ByName, []string{"web"}, "web-1 web-2"},
		{api.ByName, []string{"web", "theme", "nosuch"}, "theme-1 web-1 web-2"},
		{api.ByName, nil, ""},
		{api.ByGlob, []string{"web*"}, "web-1 web-2 webby-1"},
		{api.ByGlob, []string{"*"}, "lang-de-1 theme-1 web-1 web-2 webby-1"},
		{api.ByGlob, []string{"we?", "[tu]heme"}, "theme-1 web-1 web-2"},
		{api.ByGlob, []string{`we\b`}, "web-1 web-2"},
		{api.ByCapability, []string{"webserver"}, "web-1"},
		{api.ByCapability, []string{"/usr/bin/web"}, "web-1"},
		{api.ByCapability, []string{"web", "webserver"}, "web-1 web-2"},
		{api.ByObsoletes, []string{"oldweb"}, "web-2"},
		{api.ByReverse, []string{"german"}, "lang-de-1"},
		{api.ByReverse, []string{"web"}, "lang-de-1 theme-1"},
		{api.ByRequires, []string{"web"}, "webby-1"},
		{api.ByRequires, []string{"crypto"}, "web-1"},
		{api.ByRequires, []string{"libc.so.6(GLIBC_2.34)(64bit)"}, "web-1"},
		{api.ByRequires, []string{"libc.so.6"}, ""},
		{api.ByText, []string{"café"}, "webby-1"},
		{api.ByText, []string{`"QUOTED" tool`}, "webby-1"},
		{api.ByText, []string{"program theme"}, "theme-1"},
		{api.ByText, []string{"theme", "lang"}, "lang-de-1 theme-1"},
		{api.ByText, []string{" "}, ""},
	} {
		result, err := s.Query(ctx, api.Query{Index: tree.Object.Digest, Kind: test.kind, Terms: test.terms})
		if err != nil {
			t.Errorf("%s %q: %v", test.kind, test.terms, err)
			continue
		}
		if got := names(t, result); got != test.want || result.More {
			t.Errorf("%s %q: got %q (more: %v), want %q", test.kind, test.terms, got, result.More, test.want)
		}
	}
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := sample(t)
	addIndex(t, s, tree, docs)
	for name, q := range map[string]api.Query{
		"unknown kind":   {Kind: "sql", Terms: []string{"x"}},
		"empty term":     {Kind: api.ByName, Terms: []string{""}},
		"long term":      {Kind: api.ByName, Terms: []string{strings.Repeat("x", 5000)}},
		"bad pattern":    {Kind: api.ByGlob, Terms: []string{"[a"}},
		"too many terms": {Kind: api.ByName, Terms: make([]string, api.MaxTerms+1)},
	} {
		q.Index = tree.Object.Digest
		if _, err := s.Query(ctx, q); !errors.Is(err, ErrBadQuery) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Query(ctx, api.Query{Index: repository, Kind: api.ByName}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown index: %v", err)
	}
}

// TestDocumentsComeBack checks that a shard put together from its rows is the
// one that was signed.
func TestDocumentsComeBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := sample(t)
	addIndex(t, s, tree, docs)
	for _, o := range append(append([]repo.Object{tree.Object}, tree.Root.Tables...), tree.Shards()...) {
		text, err := s.IndexDocument(ctx, o.Digest)
		if err != nil || repo.ObjectOf(text) != o {
			t.Errorf("document %s: %v", o.Digest, err)
		}
	}
	if _, err := s.IndexDocument(ctx, repository); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown document: %v", err)
	}
}

func TestParseShardRefuses(t *testing.T) {
	t.Parallel()
	tree, docs := sample(t)
	o := tree.Shards()[0]
	text := docs[o.Digest]
	for name, err := range map[string]error{
		"other content": second(ParseShard(append(slices.Clone(text), ' '), o, 0, 0)),
		"other digest":  second(ParseShard(text, tree.Object, 0, 0)),
		"not canonical": second(parseAnyway(append([]byte(" "), text...))),
		"not JSON":      second(parseAnyway([]byte("x"))),
		"bad supplement": func() error {
			e := entry("x", "1", func(e *index.Entry) { e.Supplements = []string{"("} })
			b, err := repo.EncodeCanonical(index.Shard{Format: 1, Packages: []index.Entry{e}})
			must(t, err)
			return second(parseAnyway(b))
		}(),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func parseAnyway(text []byte) (*Shard, error) { return ParseShard(text, repo.ObjectOf(text), 0, 0) }

func second[T any](_ T, err error) error { return err }

func FuzzParseShard(f *testing.F) {
	tree, docs := sample(f)
	f.Add(docs[tree.Shards()[0].Digest])
	f.Add([]byte(`{"format":1,"packages":[]}`))
	f.Add([]byte(`{"format":1,"packages":[{"name":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		shard, err := parseAnyway(text)
		if err != nil {
			return
		}
		for _, p := range shard.packages {
			var e index.Entry
			if err := repo.DecodeCanonical(p.entry, &e); err != nil || string(e.Name) != p.name {
				t.Errorf("row %q does not match its entry: %v", p.name, err)
			}
		}
	})
}

// TestRanks follows three generations: current and previous stay, the rest
// goes with all of its rows.
func TestRanks(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := sample(t)
	generations := []*index.Tree{tree}
	for n := range 3 {
		tree = extend(t, tree, docs, entry(fmt.Sprintf("new%d", n), "1"))
		generations = append(generations, tree)
	}
	ref := func(name, version string) api.PackageRef {
		return api.PackageRef{ID: entry(name, version).Record.Digest, Name: repo.Name(name), Publisher: "alice", Repository: repository}
	}
	for n, g := range generations {
		addIndex(t, s, g, docs)
		if n > 0 {
			if _, err := admits(s, ref(fmt.Sprintf("new%d", n-1), "1")); !errors.Is(err, ErrNotFound) {
				t.Errorf("generation %d admits before it is shown: %v", n, err)
			}
		}
		for range 2 { // again: nothing changes
			must(t, s.ShowIndexes(ctx, repository, []repo.Digest{g.Object.Digest}, nil))
		}
		want := []Shown{{repository, "alice", g.Object.Digest}}
		if shown, err := s.ShownIndexes(ctx); err != nil || !slices.Equal(shown, want) {
			t.Errorf("generation %d: shown are %v, %v", n, shown, err)
		}
		for m := range generations[:n+1] {
			there, err := s.HasIndex(ctx, generations[m].Object.Digest)
			must(t, err)
			if want := m >= n-1; there != want {
				t.Errorf("generation %d after %d: there is %v, want %v", m, n, there, want)
			}
		}
	}
	if got := count(t, s, "shards"); got != 2 {
		t.Errorf("%d shards are kept, want 2", got)
	}
	if packages, entries := count(t, s, "packages"), 5+3+5+2; packages != entries {
		t.Errorf("%d packages are kept, want %d", packages, entries)
	}
	must(t, s.ShowIndexes(ctx, repository, nil, []repo.Publisher{"alice"})) // its role does not verify today
	must(t, s.ShowIndexes(ctx, repository, nil, []repo.Publisher{"alice"}))
	if _, err := admits(s, ref("new2", "1")); err != nil {
		t.Errorf("the last good index of a broken role is gone: %v", err)
	}
	must(t, s.ShowIndexes(ctx, repository, nil, nil)) // it was removed
	for _, table := range []string{"indexes", "shards", "index_shards", "index_documents", "packages", "capabilities", "obsoletes", "supplements"} {
		if n := count(t, s, table); n != 0 {
			t.Errorf("%s keeps %d rows of a publisher that is gone", table, n)
		}
	}
}

func count(t testing.TB, s *State, table string) (n int) {
	t.Helper()
	must(t, s.reader.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// TestWriteSoon: writes that may be lost leave those alone that may not.
func TestWriteSoon(t *testing.T) {
	t.Parallel()
	s := open(t)
	mode := func(tx *sql.Tx) (mode int, err error) {
		return mode, tx.QueryRow("PRAGMA synchronous").Scan(&mode)
	}
	const normal, full = 1, 2
	for range 3 {
		must(t, s.writeSoon(ctx, "look", func(tx *sql.Tx) error {
			if got, err := mode(tx); err != nil || got != normal {
				t.Errorf("soon: synchronous is %d, %v", got, err)
			}
			return nil
		}))
		gone, cancel := context.WithCancel(ctx)
		_ = s.writeSoon(gone, "be interrupted", func(*sql.Tx) error { cancel(); return gone.Err() })
		must(t, s.write(ctx, "look", func(tx *sql.Tx) error {
			if got, err := mode(tx); err != nil || got != full {
				t.Errorf("now: synchronous is %d, %v", got, err)
			}
			return nil
		}))
	}
}

// admits returns the entry of a package that may be had.
func admits(s *State, ref api.PackageRef) (*index.Entry, error) {
	offers, err := s.Offers(ctx, []api.PackageRef{ref})
	switch {
	case err != nil:
		return nil, err
	case !offers[0].Admitted():
		return nil, ErrNotFound
	}
	return offers[0].Entry()
}

func TestOffers(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree, docs := sample(t)
	addIndex(t, s, tree, docs)
	must(t, s.ShowIndexes(ctx, repository, []repo.Digest{tree.Object.Digest}, nil))
	good := api.PackageRef{ID: entry("web", "2").Record.Digest, Name: "web", Publisher: "alice", Repository: repository}
	e, err := admits(s, good)
	if err != nil || e.Version != "2" || e.BlobSize != 1000 {
		t.Fatalf("got %+v, %v", e, err)
	}
	for name, change := range map[string]func(*api.PackageRef){
		"name": func(r *api.PackageRef) { r.Name = "webby" }, "publisher": func(r *api.PackageRef) { r.Publisher = "bob" },
		"repository": func(r *api.PackageRef) { r.Repository = r.ID }, "id": func(r *api.PackageRef) { r.ID = repository },
	} {
		bad := good
		change(&bad)
		if _, err := admits(s, bad); !errors.Is(err, ErrNotFound) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if size, err := s.SizeOf(ctx, good.ID); err != nil || size != e.Record.Size {
		t.Errorf("size of record: %d, %v", size, err)
	}
	list := repo.ObjectOf([]byte("list"))
	must(t, s.Bound(ctx, []repo.Object{list, list}))
	if size, err := s.SizeOf(ctx, list.Digest); err != nil || size != list.Size {
		t.Errorf("size of file list: %d, %v", size, err)
	}
	if _, err := s.SizeOf(ctx, repository); !errors.Is(err, ErrNotFound) {
		t.Errorf("size of unknown document: %v", err)
	}
}

func TestLayersAndReferences(t *testing.T) {
	t.Parallel()
	s := open(t)
	id, other := repo.DigestOf([]byte("1")), repo.DigestOf([]byte("2"))
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: repository}))
	must(t, s.AddGuest(ctx, Guest{Name: "g2", Owner: repository, HostUserNS: true}))
	if err := s.AddGuest(ctx, Guest{Name: "g1"}); !errors.Is(err, ErrExists) {
		t.Errorf("the same guest twice: %v", err)
	}
	layer := Layer{
		ID: id, Staging: "s1", Manifest: repo.ObjectOf([]byte("list")), Private: []repo.File{{Path: "/etc/x", Type: repo.Regular, Mode: 0o644}},
		Stored: 1, Shared: 2, Objects: 3, Fetched: 4, Repository: repository, Publisher: "alice", Name: "x",
	}
	must(t, s.AddLayer(ctx, layer, []string{"g1", "gone"}))
	if err := s.AddLayer(ctx, layer, nil); !errors.Is(err, ErrExists) {
		t.Errorf("the same layer twice: %v", err)
	}
	got, err := s.Layer(ctx, id)
	must(t, err)
	if a, b := jsonOf(t, got), jsonOf(t, &layer); a != b {
		t.Errorf("layer came back as %s, want %s", a, b)
	}
	if missing, err := s.NotEntitled(ctx, "g2", []repo.Digest{id, other}); err != nil || len(missing) != 2 {
		t.Errorf("g2: %v, %v", missing, err)
	}
	if missing, err := s.NotEntitled(ctx, "g1", []repo.Digest{id, other}); err != nil || len(missing) != 1 {
		t.Errorf("g1: %v, %v", missing, err)
	}
	if err := s.Entitle(ctx, "g2", []repo.Digest{other}); !errors.Is(err, ErrNotFound) {
		t.Errorf("entitled to no layer: %v", err)
	}
	if err := s.Refer(ctx, "g1", []repo.Digest{id, other}); !errors.Is(err, ErrNotFound) {
		t.Errorf("referred to no layer: %v", err)
	}
	if refs, err := s.References(ctx, "g1"); err != nil || len(refs) != 0 {
		t.Errorf("half a transaction stayed: %v, %v", refs, err)
	}
	must(t, s.Refer(ctx, "g1", []repo.Digest{id, id}))
	if users, err := s.LayerUsers(ctx); err != nil || len(users) != 1 || users[id] != 1 {
		t.Errorf("users of layers: %v, %v", users, err)
	}
	must(t, s.Refer(ctx, "g2", []repo.Digest{id}))
	if users, err := s.LayerUsers(ctx); err != nil || users[id] != 2 {
		t.Errorf("users of layers: %v, %v", users, err)
	}
	must(t, s.Unrefer(ctx, "g2", []repo.Digest{id}))
	if err := s.RemoveLayer(ctx, id); err == nil {
		t.Error("a layer that is referred to was removed")
	}
	guests, err := s.Guests(ctx)
	must(t, err)
	if len(guests) != 2 || guests[0].Packages != 1 || guests[1].Packages != 0 || !guests[1].HostUserNS {
		t.Errorf("guests: %+v", guests)
	}
	must(t, s.SetReferences(ctx, "g1", nil))
	must(t, s.RemoveLayer(ctx, id))
	if err := s.RemoveLayer(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	must(t, s.RemoveGuest(ctx, "g1"))
	if err := s.RemoveGuest(ctx, "g1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

func TestForgetLayersDropsReferences(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := repo.DigestOf([]byte("1"))
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: repository}))
	must(t, s.AddLayer(ctx, Layer{ID: id, Manifest: repo.ObjectOf(nil)}, []string{"g1"}))
	must(t, s.Refer(ctx, "g1", []repo.Digest{id}))
	must(t, s.ForgetLayers(ctx, []repo.Digest{id}))
	if layers, err := s.Layers(ctx); err != nil || len(layers) != 0 {
		t.Errorf("%v, %v", layers, err)
	}
}

func TestReopenAndNewerVersion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(ctx, Options{Path: path})
	must(t, err)
	pin := api.RepositoryPin{Root: repository, URL: "http://a"}
	must(t, s.AddRepository(ctx, pin))
	pin.URL = "http://b"
	must(t, s.AddRepository(ctx, pin))
	must(t, s.AddFetched(ctx, 5))
	must(t, s.AddFetched(ctx, 6))
	must(t, s.SetRepositoryStatus(ctx, api.RepositoryStatus{RepositoryPin: pin, Checked: 1, Expires: 2, Version: 3, Error: "x"}))
	must(t, s.Close())
	s, err = Open(ctx, Options{Path: path})
	must(t, err)
	list, err := s.Repositories(ctx)
	must(t, err)
	if len(list) != 1 || list[0] != (api.RepositoryStatus{RepositoryPin: pin, Checked: 1, Expires: 2, Version: 3, Error: "x"}) {
		t.Errorf("repositories: %+v", list)
	}
	if n, err := s.Fetched(ctx); err != nil || n != 11 {
		t.Errorf("fetched %d, %v", n, err)
	}
	_, err = s.writer.Exec("PRAGMA user_version = 99")
	must(t, err)
	must(t, s.Close())
	if s, err := Open(ctx, Options{Path: path}); err == nil {
		t.Error("a database of a newer program was opened")
		must(t, s.Close())
	}
}

// TestMigrateOrigins: of layers from before there was a column for it, the
// index still knows whose they are.
func TestMigrateOrigins(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	known, unknown := repo.DigestOf([]byte("known")), repo.DigestOf([]byte("withdrawn"))
	old, err := sql.Open("sqlite3", dsn(path, "_foreign_keys=1"))
	must(t, err)
	must(t, migrateBy(ctx, old, []string{"migrations/0001.sql", "migrations/0002.sql", "migrations/0003.sql"}))
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := old.Exec(query, args...)
		must(t, err)
	}
	for n, publisher := range []string{"gone", "alice"} { // who had it before, and who has it now
		exec(`INSERT INTO indexes VALUES (?, ?, ?, ?, ?)`, n, []byte(publisher), repository[:], publisher, 1-n)
		exec(`INSERT INTO shards VALUES (?, x'00', ?, 1)`, n, n)
		exec(`INSERT INTO index_shards VALUES (?, ?)`, n, n)
		exec(`INSERT INTO packages VALUES (?, ?, 'web', ?, 1, x'')`, n, n, known[:])
	}
	for _, id := range []repo.Digest{known, unknown} {
		exec(`INSERT INTO layers VALUES (?, 's', ?, 1, '[]', 1, 2, 3, 4, 5, 6)`, id[:], id[:])
	}
	must(t, old.Close())
	s, err := Open(ctx, Options{Path: path})
	must(t, err)
	defer s.Close()
	got, err := s.Layer(ctx, known)
	must(t, err)
	if got.Repository != repository || got.Publisher != "alice" || got.Name != "web" {
		t.Errorf("%s %s %s, want alice's web", got.Repository, got.Publisher, got.Name)
	}
	if got, err = s.Layer(ctx, unknown); err != nil || !got.Repository.IsZero() || got.Publisher != "" || got.Name != "" {
		t.Errorf("%+v, %v, want nobody's", got, err)
	}
}
