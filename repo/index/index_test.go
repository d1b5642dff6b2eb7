package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"stork/repo"
)

var repository = repo.DigestOf([]byte("first root"))

// entry makes a valid entry.
func entry(name, version string) Entry {
	return Entry{
		Arch: "noarch", BlobSize: 1, Name: repo.Name(name), Release: "1", Version: version,
		Record: repo.ObjectOf([]byte(name + version)),
	}
}

func empty(t testing.TB) (*Tree, Documents) {
	t.Helper()
	tree, docs, err := New("alice", repository)
	if err != nil {
		t.Fatal(err)
	}
	return tree, docs
}

// opened extends the empty index by one step after another, each from what is
// on disk.
func opened(t testing.TB, steps ...[]Entry) (*Tree, Documents) {
	t.Helper()
	tree, docs := empty(t)
	for _, added := range steps {
		from, err := Open(t.Context(), docs, tree.Object)
		if err != nil {
			t.Fatal(err)
		}
		var fresh Documents
		if tree, fresh, err = from.Extend(t.Context(), added); err != nil {
			t.Fatal(err)
		}
		for digest := range fresh {
			if _, ok := docs[digest]; ok {
				continue // an old document that came back, as when a shard is empty
			}
			docs[digest] = fresh[digest]
		}
	}
	return tree, docs
}

// manyEntries draws distinct entries, with few names, so that they collide.
func manyEntries(t *rapid.T) []Entry {
	keys := rapid.SliceOfDistinct(rapid.Custom(func(t *rapid.T) [2]string {
		return [2]string{
			"p" + rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 1, 4, -1).Draw(t, "name"),
			rapid.SampledFrom([]string{"1", "1.0", "1.00", "2~rc", "2", "10"}).Draw(t, "version"),
		}
	}), func(k [2]string) [2]string { return k }).Draw(t, "keys")
	entries := make([]Entry, len(keys))
	for i, k := range keys {
		entries[i] = entry(k[0], k[1])
	}
	return entries
}

// TestExtendIsAFunction says that the root depends on the entries only, not
// on the order or the number of steps in which they came.
func TestExtendIsAFunction(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		entries := manyEntries(r)
		once, _ := opened(t, entries)
		shuffled := rapid.Permutation(entries).Draw(r, "order")
		cut := rapid.IntRange(0, len(shuffled)).Draw(r, "cut")
		twice, docs := opened(t, shuffled[:cut], shuffled[cut:])
		if once.Object != twice.Object {
			r.Fatalf("in one step %v, in two %v", once.Object, twice.Object)
		}
		checkTree(r, docs, twice.Object, entries)
	})
}

type failer interface{ Fatalf(string, ...any) }

// checkTree opens an index and finds in it every entry, and nothing else.
func checkTree(f failer, docs Documents, object repo.Object, entries []Entry) {
	ctx := context.Background()
	tree, err := Open(ctx, docs, object)
	if err != nil {
		f.Fatalf("cannot open: %v", err)
	}
	var all []Entry
	for n := range tree.Shards() {
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			f.Fatalf("cannot read shard %d: %v", n, err)
		}
		all = append(all, shard.Packages...)
	}
	sortEntries(all)
	want := slices.Clone(entries)
	sortEntries(want)
	if len(all) != len(want) || len(all) > 0 && !reflect.DeepEqual(all, want) {
		f.Fatalf("%d entries, want %d", len(all), len(want))
	}
	names := map[repo.Name]int{}
	for _, e := range entries {
		names[e.Name]++
	}
	names["absent"] = 0
	finder, err := Find(ctx, docs, object)
	if err != nil {
		f.Fatalf("cannot open to find: %v", err)
	}
	for name, count := range names {
		shard, err := tree.Shard(ctx, ShardOf(name, tree.Root.Bits))
		if err != nil {
			f.Fatalf("cannot read the shard of %s: %v", name, err)
		}
		named := shard.named(name)
		looked, lookErr := finder.Named(ctx, name)
		if lookErr != nil || len(named) != count || !reflect.DeepEqual(named, looked) {
			f.Fatalf("%s: %d named, %d looked up, want %d (%v)", name, len(named), len(looked), count, lookErr)
		}
	}
}

// TestGrowth adds so many packages that the index is cut finer and finer.
func TestGrowth(t *testing.T) {
	t.Parallel()
	var entries []Entry
	var steps [][]Entry
	for _, n := range []int{1, 15, 1, 16, 100, 900} {
		var step []Entry
		for range n {
			step = append(step, entry(fmt.Sprintf("package%04d", len(entries)+len(step)), "1"))
		}
		entries = append(entries, step...)
		steps = append(steps, step)
	}
	tree, docs := opened(t, steps...)
	if tree.Root.Packages != 1033 || tree.Root.Bits != 7 || len(tree.Root.Tables) != 8 || len(tree.Shards()) != 128 {
		t.Errorf("root %+v with %d shards", tree.Root, len(tree.Shards()))
	}
	checkTree(t, docs, tree.Object, entries)
}

// TestGolden holds the format: another digest would make every signature in
// the field worthless.
func TestGolden(t *testing.T) {
	t.Parallel()
	tree, _ := opened(t, []Entry{entry("app", "1"), entry("lib", "2")})
	const golden = "sha256:11a797ccefa406fa9551f05dc9e29e542a99723cdfe8e4b6e176fbd53ce85f2a"
	if got := tree.Object.Digest.String(); got != golden {
		t.Errorf("root %s, want %s", got, golden)
	}
}

func TestExtendInPlaceIsSmall(t *testing.T) {
	t.Parallel()
	var entries []Entry
	for i := range 1000 {
		entries = append(entries, entry(fmt.Sprintf("package%04d", i), "1"))
	}
	tree, _ := opened(t, entries)
	_, fresh, err := tree.Extend(t.Context(), []Entry{entry("package0500", "2")})
	if err != nil {
		t.Fatal(err)
	}
	if len(fresh) != 3 {
		t.Errorf("%d new documents for one package, want root, table and shard", len(fresh))
	}
}

func TestRepublishIsRefused(t *testing.T) {
	t.Parallel()
	tree, _ := opened(t, []Entry{entry("app", "1")})
	again := entry("app", "1")
	again.Record = repo.ObjectOf([]byte("other content"))
	if _, _, err := tree.Extend(t.Context(), []Entry{again}); err == nil || !strings.Contains(err.Error(), "app-1-1.noarch is published already") {
		t.Errorf("other content under an old version: %v", err)
	}
	if _, _, err := tree.Extend(t.Context(), []Entry{entry("x", "1"), entry("x", "1")}); err == nil {
		t.Error("one package twice in one step was accepted")
	}
}

// TestHostileDocuments changes documents so that their digests are right and
// their content is not.
func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	build := func(change func(*Root, *Table, *Shard)) (Documents, repo.Object) {
		docs := Documents{}
		b := builder{docs: docs}
		shard := Shard{Format: Format, Packages: []Entry{entry("app", "1"), entry("app", "2"), entry("lib", "1")}}
		table := Table{Format: Format}
		root := Root{Format: Format, Packages: 3, Publisher: "alice", Repository: repository}
		add := func(v any) repo.Object {
			o, err := b.add(v)
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		change(&root, &table, &shard)
		table.Shards = append(table.Shards, add(shard))
		root.Tables = append(root.Tables, add(table))
		return docs, add(root)
	}
	tests := []struct {
		name   string
		change func(*Root, *Table, *Shard)
		want   string // "": it is fine
	}{
		{"none", func(*Root, *Table, *Shard) {}, ""},
		{"root format", func(r *Root, _ *Table, _ *Shard) { r.Format = 2 }, "do not agree"},
		{"bits", func(r *Root, _ *Table, _ *Shard) { r.Bits = 1 }, "do not agree"},
		{"negative bits", func(r *Root, _ *Table, _ *Shard) { r.Bits = -1 }, "do not agree"},
		{"huge bits", func(r *Root, _ *Table, _ *Shard) { r.Bits = 1 << 40 }, "do not agree"},
		{"count", func(r *Root, _ *Table, _ *Shard) { r.Packages = 17 }, "do not agree"},
		{"negative count", func(r *Root, _ *Table, _ *Shard) { r.Packages = -1 }, "do not agree"},
		{"no repository", func(r *Root, _ *Table, _ *Shard) { r.Repository = repo.Digest{} }, "do not agree"},
		{"bad publisher", func(r *Root, _ *Table, _ *Shard) { r.Publisher = "../x" }, "cannot parse publisher"},
		{"two tables", func(r *Root, _ *Table, _ *Shard) { r.Tables = make([]repo.Object, 1) }, "do not agree"},
		{"two shards", func(_ *Root, ta *Table, _ *Shard) { ta.Shards = make([]repo.Object, 1) }, "do not agree"},
		{"table format", func(_ *Root, ta *Table, _ *Shard) { ta.Format = 0 }, "do not agree"},
		{"shard format", func(_ *Root, _ *Table, s *Shard) { s.Format = 2 }, "unknown format"},
		{"order", func(_ *Root, _ *Table, s *Shard) { slices.Reverse(s.Packages) }, "out of order"},
		{"twice", func(_ *Root, _ *Table, s *Shard) { s.Packages[1] = s.Packages[0] }, "out of order or twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			docs, object := build(tt.change)
			_, err := lookup(t.Context(), docs, object, "app")
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("lookup: %v, want %q", err, tt.want)
			}
			if _, openErr := Open(t.Context(), docs, object); openErr == nil && tt.want == "do not agree" {
				t.Error("open accepted it")
			}
		})
	}
}

// TestWrongShard says that a package is not looked for, nor found, in a shard
// where its name does not belong.
func TestWrongShard(t *testing.T) {
	t.Parallel()
	shard, err := repo.EncodeCanonical(Shard{Format: Format, Packages: []Entry{entry("app", "1")}})
	if err != nil {
		t.Fatal(err)
	}
	right := ShardOf("app", 4)
	if _, err := DecodeShard(shard, right, 4); err != nil {
		t.Error(err)
	}
	if _, err := DecodeShard(shard, right^1, 4); err == nil || !strings.Contains(err.Error(), "does not belong here") {
		t.Errorf("in another shard: %v", err)
	}
}

func TestMissingDocument(t *testing.T) {
	t.Parallel()
	tree, docs := opened(t, []Entry{entry("app", "1")})
	for digest := range docs {
		some := maps.Clone(docs)
		delete(some, digest)
		_, err := lookup(t.Context(), some, tree.Object, "app")
		used := bytes.Contains(docs[tree.Object.Digest], []byte(digest.Hex())) || digest == tree.Object.Digest || digest == tree.Shards()[0].Digest
		if used && err == nil {
			t.Errorf("lookup without %s found something", digest.Short())
		}
	}
}

// TestEntryRepeatsRecord says that EntryOf leaves no field of an entry out.
func TestEntryRepeatsRecord(t *testing.T) {
	t.Parallel()
	some := []repo.Capability{{Name: "c"}}
	r := &repo.Record{
		Arch: "noarch", Blob: repo.Blob{Size: 1}, Conflicts: []string{"a"}, Enhances: []string{"b"}, Epoch: 2, InstalledSize: 3,
		Name: "n", Obsoletes: some, Paths: []string{"/p"}, Provides: some, Recommends: []string{"d"}, Release: "r",
		Requires: []string{"e"}, RequiresPre: []string{"f"}, Suggests: []string{"g"}, Summary: "s", Supplements: []string{"h"}, Version: "v",
	}
	v := reflect.ValueOf(EntryOf(r, repo.ObjectOf([]byte("x"))))
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is empty", v.Type().Field(i).Name)
		}
	}
}

// TestFieldOrder holds the documents to what canonical JSON relies on.
func TestFieldOrder(t *testing.T) {
	t.Parallel()
	for _, document := range []any{Root{}, Table{}, Shard{}, Entry{}} {
		typ, last := reflect.TypeOf(document), ""
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if key == "" || key <= last {
				t.Errorf("%s.%s: key %q does not stand behind %q", typ, typ.Field(i).Name, key, last)
			}
			last = key
		}
	}
}

func FuzzDecode(f *testing.F) {
	tree, docs, err := New("alice", repository)
	if err != nil {
		f.Fatal(err)
	}
	_, more, err := tree.Extend(context.Background(), []Entry{entry("app", "1")})
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range []Documents{docs, more} {
		for _, b := range d {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeShard(b, 0, 0); err == nil {
			same(t, b, s)
		}
		r, err := DecodeRoot(b)
		if err == nil {
			same(t, b, r)
		}
		table, err := decodeTable(b, &Root{})
		if err == nil {
			same(t, b, table)
		}
	})
}

func same(t *testing.T, b []byte, v any) {
	t.Helper()
	again, err := repo.EncodeCanonical(v)
	if err = errors.Join(err); err != nil || !bytes.Equal(b, again) {
		t.Errorf("%q was read and is written as %q, %v", b, again, err)
	}
}

// lookup finds one package, as who needs no more of an index does.
func lookup(ctx context.Context, source Source, object repo.Object, name repo.Name) ([]Entry, error) {
	f, err := Find(ctx, source, object)
	if err != nil {
		return nil, err
	}
	return f.Named(ctx, name)
}
