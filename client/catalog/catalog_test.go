package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/client/catalog"
	"stork/client/chain"
	"stork/client/solve"
	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing"
	"stork/signing/policy"
)

// TestHonest follows the whole way, so that the tests of lies are about lies.
func TestHonest(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"), app("2"), lib("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	c := newGuest(t, r, alice).mustOpen(newNest(t, r, alice))
	found := find(t, c, "app", "lib")
	if got, want := describe(found), []string{"alice/app-2-1.noarch", "alice/app-1-1.noarch", "alice/lib-1-1.noarch"}; !slices.Equal(got, want) {
		t.Fatalf("found %q, want %q", got, want)
	}
	records, err := c.Verify(context.Background(), found...)
	if err != nil || len(records) != 3 || records[0].Version != "2" || records[2].Name != "lib" {
		t.Fatalf("records %+v, %v", records, err)
	}
	list, err := c.FileList(context.Background(), found[0])
	if err != nil || len(list.Files) != 1 || list.Files[0].Path != "/usr/bin/app" {
		t.Fatalf("file list %+v, %v", list, err)
	}
	packages, err := c.Lookup(context.Background(), []solve.Query{{Kind: solve.ByCapability, Terms: []string{"libx"}}, {Kind: solve.ByName, Terms: []string{"lib"}}})
	if err != nil || len(packages) != 1 || packages[0].Name != "lib" || packages[0].Publisher != "alice" {
		t.Fatalf("candidates %v, %v", packages, err)
	}
	if s := c.Served(); len(s) != 1 || s[0].Pin != r.Pin() || !s[0].Expires.After(r.Now()) {
		t.Errorf("served %+v", s)
	}
}

// TestLies: whatever the nest changes in what it says, the guest refuses to
// install it.
func TestLies(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice, mallory := r.Join("alice"), r.Join("mallory")
	alice.Publish(app("1"), lib("1"))
	mallory.Publish(app("9"))
	alice.PublishPolicy(0, alice.Allow("*"))
	theirs := mallory.Upload(fixtures.Spec{Name: "app", Version: "3"}, nil)
	entry := func(change func(*index.Entry)) func(*nest) { return func(n *nest) { n.entry = change } }
	document := func(digest func() repo.Digest, change func([]byte) []byte) func(*nest) {
		return func(n *nest) {
			n.document = func(o repo.Object, b []byte) []byte {
				if o.Digest == digest() {
					return change(slices.Clone(b))
				}
				return b
			}
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for name, lie := range map[string]func(*nest){
		"more provides":     entry(func(e *index.Entry) { e.Provides = append(e.Provides, repo.Capability{Name: "libc.so.6"}) }),
		"fewer requires":    entry(func(e *index.Entry) { e.Requires = nil }),
		"obsoletes":         entry(func(e *index.Entry) { e.Obsoletes = []repo.Capability{{Name: "bash"}} }),
		"higher version":    entry(func(e *index.Entry) { e.Version = "99" }),
		"other record":      entry(func(e *index.Entry) { e.Record = repo.ObjectOf([]byte("x")) }),
		"mallory's record":  entry(func(e *index.Entry) { e.Record = theirs.Record }),
		"record's size":     entry(func(e *index.Entry) { e.Record.Size++ }),
		"mallory's entry":   entry(func(e *index.Entry) { *e = theirs }),
		"smaller than said": entry(func(e *index.Entry) { e.InstalledSize = 0 }),
		"changed record":    document(func() repo.Digest { return alice.IDs["app"] }, flip),
		"mallory's document": document(func() repo.Digest { return alice.IDs["app"] }, func([]byte) []byte {
			return r.Read(repo.DataPath(theirs.Record.Digest))
		}),
		"changed root":   document(func() repo.Digest { return alice.IndexRoot().Digest }, flip),
		"mallory's root": document(func() repo.Digest { return alice.IndexRoot().Digest }, func([]byte) []byte { return r.Read(repo.DataPath(mallory.IndexRoot().Digest)) }),
		"longer root":    document(func() repo.Digest { return alice.IndexRoot().Digest }, func(b []byte) []byte { return append(b, '\n') }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNest(t, r, alice)
			lie(n)
			c := newGuest(t, r, alice).mustOpen(n)
			found := find(t, c, "app")
			if len(found) == 0 {
				t.Fatal("nothing found: the lie was not tried")
			}
			for _, a := range found {
				if _, err := c.Verify(context.Background(), a); !errors.Is(err, signing.ErrUntrusted) {
					t.Errorf("%s: got %v, want ErrUntrusted", a.Entry.NEVRA(), err)
				}
			}
		})
	}
}

// TestLyingFileList: what `stork files` shows is what was signed.
func TestLyingFileList(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	n := newNest(t, r, alice)
	c := newGuest(t, r, alice).mustOpen(n)
	found := find(t, c, "app")
	n.document = func(o repo.Object, b []byte) []byte {
		return []byte(strings.ReplaceAll(string(b), "/usr/bin/app", "/usr/bin/apq"))
	}
	n.document(repo.Object{}, nil)
	if _, err := c.FileList(context.Background(), found[0]); !errors.Is(err, signing.ErrUntrusted) {
		t.Errorf("got %v, want ErrUntrusted", err)
	}
	if _, err := catalog.Recorded(context.Background(), n.Files(r.Root), found[0].Entry.Record); !errors.Is(err, signing.ErrUntrusted) {
		t.Errorf("by its record: got %v, want ErrUntrusted", err)
	}
	n.document = nil
	list, err := catalog.Recorded(context.Background(), n.Files(r.Root), found[0].Entry.Record)
	if err != nil || len(list.Files) != 1 || list.Files[0].Path != "/usr/bin/app" {
		t.Errorf("by its record: %+v, %v", list, err)
	}
}

// TestRecordDiffersFromEntry: a publisher whose index says one thing and whose
// record another fools the solver, so neither counts.
func TestRecordDiffersFromEntry(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	entry := alice.Upload(app("1"), nil)
	entry.Requires = nil
	alice.PublishEntries(entry)
	alice.PublishPolicy(0, alice.Allow("*"))
	c := newGuest(t, r, alice).mustOpen(newNest(t, r, alice))
	_, err := c.Verify(context.Background(), find(t, c, "app")[0])
	if !errors.Is(err, signing.ErrUntrusted) || !strings.Contains(err.Error(), "record and index entry differ") {
		t.Errorf("got %v", err)
	}
}

// TestForeignIndex: bob signs an index that was made for alice, or for
// another repository.
func TestForeignIndex(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	bob := r.Join("bob")
	entry := bob.Upload(app("1"), nil)
	bob.PublishPolicy(0, bob.Allow("*"))
	for name, origin := range map[string]struct {
		publisher  repo.Publisher
		repository repo.Digest
	}{"publisher": {"alice", r.Root}, "repository": {"bob", repo.DigestOf([]byte("other"))}} {
		tree, docs, err := index.New(origin.publisher, origin.repository)
		if err != nil {
			t.Fatal(err)
		}
		tree, docs, err = tree.Extend(context.Background(), []index.Entry{entry})
		if err != nil {
			t.Fatal(err)
		}
		bob.PublishIndex(tree.Object, docs)
		n := newNest(t, r)
		n.roots[tree.Object.Digest] = tree.Object
		c := newGuest(t, r, bob).mustOpen(n)
		if _, err := c.Verify(context.Background(), find(t, c, "app")[0]); !errors.Is(err, signing.ErrUntrusted) {
			t.Errorf("%s: got %v, want ErrUntrusted", name, err)
		}
	}
}

// TestWithheld: a signed document that is not served is not "not published".
func TestWithheld(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicyText([]byte("gone"))
	if _, err := newGuest(t, r, alice).open(newNest(t, r, alice)); err == nil || errors.Is(err, catalog.ErrNoPolicy) {
		t.Errorf("a policy that is no policy: got %v", err)
	}
	r.Write(repo.DataPath(repo.DigestOf([]byte("gone"))), nil)
	if _, err := newGuest(t, r, alice).open(newNest(t, r, alice)); !errors.Is(err, signing.ErrUntrusted) {
		t.Errorf("an emptied policy: got %v, want ErrUntrusted", err)
	}
	n := newNest(t, r, alice)
	n.trees[r.Root] = t.TempDir()
	if _, err := newGuest(t, r, alice).open(n); err == nil || errors.Is(err, catalog.ErrNoPolicy) {
		t.Errorf("an empty repository: got %v", err)
	}
}

// TestForeignPolicy: an owner's role that carries another's policy, or one
// made for another repository, is refused.
func TestForeignPolicy(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice, bob := r.Join("alice"), r.Join("bob")
	for name, p := range map[string]policy.Policy{
		"another owner's":      {Repository: r.Root, Role: bob.Owner.Role()},
		"another repository's": {Repository: repo.DigestOf([]byte("other")), Role: alice.Owner.Role()},
	} {
		p.Format, p.Rules = policy.Format, []policy.Rule{alice.Allow("*")}
		text, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		alice.PublishPolicyText(text)
		if _, err := newGuest(t, r, alice).open(newNest(t, r)); err == nil {
			t.Errorf("%s policy was accepted", name)
		}
	}
}

func TestNoPolicy(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	if _, err := newGuest(t, r, alice).open(newNest(t, r)); !errors.Is(err, catalog.ErrNoPolicy) {
		t.Errorf("no policy: got %v", err)
	}
	g := newGuest(t, r, alice)
	g.pins.Owner = repo.DigestOf([]byte("nobody"))
	if _, err := g.open(newNest(t, r)); !errors.Is(err, catalog.ErrNoPolicy) {
		t.Errorf("unknown owner: got %v", err)
	}
}

// TestPolicy says which packages of whom are candidates, in which order, and
// what is said of the others.
func TestPolicy(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice, bob, carol := r.Join("alice"), r.Join("bob"), r.Join("carol")
	alice.Publish(app("1"), app("2"), lib("1"))
	bob.Publish(app("3"), lib("2"), fixtures.Spec{Name: "tool"})
	wrongKey := carol.Allow("*")
	wrongKey.Key = bob.Publisher.Pin().Digest
	owner := r.Join("owner")
	owner.PublishPolicy(0,
		policy.Rule{Action: policy.Deny, Packages: "app", Versions: []policy.Version{{Op: repo.Equal, EVR: repo.EVR{Version: "1"}}}},
		bob.Allow("app"), alice.Allow("*"), wrongKey, r.Join("dave").Allow("*"))
	c := newGuest(t, r, owner).mustOpen(newNest(t, r, alice, bob))
	found := find(t, c, "app", "lib", "tool")
	// bob's app comes first by the rules, and bob's lib and tool are not listed.
	if got, want := describe(found), []string{"bob/app-3-1.noarch", "alice/app-2-1.noarch", "alice/lib-1-1.noarch"}; !slices.Equal(got, want) {
		t.Errorf("candidates %q, want %q", got, want)
	}
	var refused []string
	for _, name := range []string{"app", "lib", "tool"} {
		for _, f := range refusals(t, c, name) {
			refused = append(refused, string(f.Ref.Publisher)+"/"+f.NEVRA().String())
		}
	}
	slices.Sort(refused)
	if want := []string{"alice/app-1-1.noarch", "bob/lib-2-1.noarch", "bob/tool-1.0-1.noarch"}; !slices.Equal(refused, want) {
		t.Errorf("refused %q, want %q", refused, want)
	}
	left := map[repo.Publisher]string{}
	for _, u := range c.Unlisted() {
		left[u.Publisher] = u.Reason
	}
	if len(left) != 2 || left["carol"] == "" || !strings.Contains(left["dave"], "published nothing") {
		t.Errorf("left out %q, want carol, whose pin is wrong, and dave, who has published nothing", left)
	}
	if p := found[0].Package(); p.Priority != 1 || p.Key != found[0] {
		t.Errorf("package of rule 2: %+v", p)
	}
}

// TestSamePackageOfTwo: mallory, who may bring only her own things, lists
// alice's package too. It is refused as mallory's, and only as hers.
func TestSamePackageOfTwo(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	mallory, alice := r.Join("mallory"), r.Join("alice")
	mallory.Publish(app("1"))
	alice.Publish(app("1"))
	alice.PublishPolicy(0, mallory.Allow("own-*"), alice.Allow("*"))
	c := newGuest(t, r, alice).mustOpen(newNest(t, r, mallory, alice))
	for range 2 {
		if got, want := describe(find(t, c, "app")), []string{"alice/app-1-1.noarch"}; !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

func refusals(t *testing.T, c *catalog.Catalog, text string) []catalog.Refusal {
	t.Helper()
	list, err := c.Refusals(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestBrokenRepository: one that does not verify is left out whole, and the
// others serve; alone, it is an error.
func TestBrokenRepository(t *testing.T) {
	t.Parallel()
	r, gone := world.New(t), repo.DigestOf([]byte("a repository that nobody serves"))
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	g, n := newGuest(t, r, alice), newNest(t, r, alice)
	lost := api.RepositoryPin{Root: gone, URL: "http://gone.example"}
	g.pins.Repositories = append([]api.RepositoryPin{lost}, g.pins.Repositories...)
	c := g.mustOpen(n)
	if got, want := describe(find(t, c, "app")), []string{"alice/app-1-1.noarch"}; !slices.Equal(got, want) {
		t.Errorf("candidates %q, want %q", got, want)
	}
	if b := c.Broken(); len(b) != 1 || b[0].Pin != lost || b[0].Err == nil {
		t.Errorf("broken %+v", b)
	}
	g.pins.Repositories = g.pins.Repositories[:1]
	if _, err := g.open(n); !errors.Is(err, signing.ErrMissing) {
		t.Errorf("alone: got %v, want that files are missing", err)
	}
}

// TestOutsiders: what a publisher whom policy does not name has is told of,
// and still no candidate.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice, mallory := r.Join("alice"), r.Join("mallory")
	alice.Publish(app("1"))
	mallory.Publish(app("2"), lib("7"))
	alice.PublishPolicy(0, alice.Allow("*"))
	c := newGuest(t, r, alice).mustOpen(newNest(t, r, alice, mallory))
	for _, text := range []string{"lib", "lib=7", "lib >= 5", "(lib or nothing)"} {
		list := refusals(t, c, text)
		if len(list) != 1 || list[0].Ref.Publisher != "mallory" || !strings.Contains(list[0].Reason, "no rule of o-alice") {
			t.Errorf("%q: got %+v, want mallory's lib", text, list)
		}
	}
	if got, want := describe(find(t, c, "app", "lib")), []string{"alice/app-1-1.noarch"}; !slices.Equal(got, want) {
		t.Errorf("candidates %q, want %q", got, want)
	}
	if list := refusals(t, c, "nothing"); len(list) != 0 {
		t.Errorf("refused %+v", list)
	}
}

func TestRefusalMeant(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(lib("2"))
	deny := policy.Rule{Action: policy.Deny, Packages: "lib"}
	alice.PublishPolicy(0, deny, alice.Allow("*"))
	c := newGuest(t, r, alice).mustOpen(newNest(t, r, alice))
	find(t, c, "lib")
	refused := refusals(t, c, "lib")
	if len(refused) != 1 {
		t.Fatalf("refused %+v", refused)
	}
	for text, want := range map[string]bool{
		"lib": true, "lib=2": true, "lib.noarch": true, "lib >= 1": true, "li*": true, "libx": true, "(libx or other)": true,
		"libz": false, "liblib": false, "l": false,
	} {
		if got := refused[0].Meant(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// TestExpiryAndGrace walks through an owner's grant of time offline.
func TestExpiryAndGrace(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	g, n := newGuest(t, r, alice), newNest(t, r, alice)
	g.mustOpen(n)
	r.Advance(2 * day)
	if _, err := g.open(n); !errors.Is(err, signing.ErrExpired) {
		t.Fatalf("expired, nothing granted: got %v", err)
	}
	r.Renew()
	alice.PublishPolicy(3*day, alice.Allow("*"))
	g.mustOpen(n)
	r.Advance(3 * day)
	g.mustOpen(n) // timestamp expired two days ago
	if _, err := newGuest(t, r, alice).open(n); !errors.Is(err, signing.ErrExpired) {
		t.Errorf("a guest that never saw the grant: got %v", err)
	}
	r.Advance(2 * day)
	if _, err := g.open(n); !errors.Is(err, signing.ErrExpired) {
		t.Fatalf("beyond the grant: got %v", err)
	}
	r.Renew()
	g.mustOpen(n)
	// The owner grants less. The guest hears of it only when the metadata that
	// says so has expired itself: what counts is the newest policy.
	alice.PublishPolicy(day/2, alice.Allow("*"))
	r.Advance(day + 20*time.Hour)
	if _, err := g.open(n); !errors.Is(err, signing.ErrExpired) {
		t.Errorf("shortened, 20 hours late: got %v", err)
	}
	if _, err := g.open(n); !errors.Is(err, signing.ErrExpired) {
		t.Errorf("again: got %v", err)
	}
	r.Renew()
	g.mustOpen(n)
	r.Advance(day + 6*time.Hour)
	g.mustOpen(n) // within the shorter grant
	r.Renew()
	alice.PublishPolicy(0, alice.Allow("*"))
	r.Advance(day + time.Hour)
	if _, err := g.open(n); !errors.Is(err, signing.ErrExpired) {
		t.Errorf("withdrawn: got %v", err)
	}
}

// TestGraceFaults: a grace that can not be kept is an error, and half of one
// is never read.
func TestGraceFaults(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.PublishPolicy(time.Hour, alice.Allow("*"))
	failed := errors.New("no disk")
	g, n := newGuest(t, r, alice), newNest(t, r, alice)
	o := catalog.Options{Pins: g.pins, Origin: n, Verify: chain.Verify, TrustDir: g.dir, Now: r.Now}
	o.Disk = durable.Disk{Fault: func(_ durable.Step, path string) (before, after error) {
		if strings.Contains(path, "offline.json") {
			return failed, nil
		}
		return nil, nil
	}}
	if _, err := catalog.Open(context.Background(), o); !errors.Is(err, failed) {
		t.Errorf("got %v, want the disk's error", err)
	}
	g.mustOpen(n)
}

// TestManyTerms: the nest's limits are kept however much is asked.
func TestManyTerms(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"), lib("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	n := newNest(t, r, alice)
	c := newGuest(t, r, alice).mustOpen(n)
	terms := make([]string, 2*api.MaxTerms+1)
	for i := range terms {
		terms[i] = fmt.Sprint("p", i)
	}
	terms[1], terms[len(terms)-1] = "app", "lib"
	if got, want := describe(find(t, c, terms...)), []string{"alice/app-1-1.noarch", "alice/lib-1-1.noarch"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if len(n.calls) != 1 || len(n.calls[0]) != 3 {
		t.Errorf("asked in %d requests, the first of %d queries; want 1 of 3", len(n.calls), len(n.calls[0]))
	}
	n.calls = nil
	queries := make([]api.Query, api.MaxQueries+1)
	for i := range queries {
		queries[i] = api.Query{Kind: api.ByName, Terms: []string{"app"}}
	}
	if found, err := c.Find(context.Background(), queries); err != nil || len(found) != 1 || len(n.calls) != 2 {
		t.Errorf("%d found in %d requests, %v", len(found), len(n.calls), err)
	}
	if found, err := c.Find(context.Background(), nil); err != nil || len(found) != 0 {
		t.Errorf("no query: %v, %v", found, err)
	}
}

// TestCutAnswer: what the nest cuts short is looked up in the index itself.
func TestCutAnswer(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"), app("2"), lib("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	n := newNest(t, r, alice)
	n.answer = func(_ api.Query, result *api.QueryResult) { result.Entries, result.More = result.Entries[:1], true }
	c := newGuest(t, r, alice).mustOpen(n)
	found, err := c.Find(context.Background(), []api.Query{{Kind: api.ByGlob, Terms: []string{"*"}}})
	if err != nil || len(found) != 3 {
		t.Errorf("found %q, %v; want all three", describe(found), err)
	}
}

func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	for name, results := range map[string]func([]api.QueryResult) []api.QueryResult{
		"too few":  func([]api.QueryResult) []api.QueryResult { return nil },
		"too many": func(r []api.QueryResult) []api.QueryResult { return append(r, r...) },
		"no entry": func(r []api.QueryResult) []api.QueryResult { r[0].Entries = []json.RawMessage{[]byte("7")}; return r },
		"unknown field": func(r []api.QueryResult) []api.QueryResult {
			r[0].Entries = []json.RawMessage{[]byte(`{"x":1}`)}
			return r
		},
		"no name": func(r []api.QueryResult) []api.QueryResult {
			r[0].Entries = []json.RawMessage{[]byte(`{"name":"a b"}`)}
			return r
		},
	} {
		n := newNest(t, r, alice)
		n.results = results
		c := newGuest(t, r, alice).mustOpen(n)
		if found, err := c.Find(context.Background(), []api.Query{{Kind: api.ByName, Terms: []string{"app"}}}); err == nil {
			t.Errorf("%s: found %q, want an error", name, describe(found))
		}
	}
}

// FuzzEntry feeds a nest's entries to a real catalog: none panics, and none
// but the signed one verifies.
func FuzzEntry(f *testing.F) {
	r := world.New(f)
	alice := r.Join("alice")
	entry := alice.Upload(app("1"), nil)
	alice.PublishEntries(entry)
	alice.PublishPolicy(0, alice.Allow("*"))
	seed, err := repo.EncodeCanonical(entry)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(seed), `{}`, `null`, `{"name":"app"}`, strings.Replace(string(seed), `"1"`, `"2"`, 1)} {
		f.Add([]byte(s))
	}
	n := newNest(nil, r, alice)
	dir := f.TempDir()
	open := func(t testing.TB) *catalog.Catalog {
		c, err := catalog.Open(context.Background(), catalog.Options{Pins: alice.Pins(), Origin: n, Verify: chain.Verify, TrustDir: dir, Now: r.Now})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := open(f) // takes what is no entry at all: a catalog remembers the others
	f.Fuzz(func(t *testing.T, b []byte) {
		n.results = func(list []api.QueryResult) []api.QueryResult {
			list[0].Entries = []json.RawMessage{b}
			return list
		}
		c := one
		if repo.DecodeStrict(b, new(index.Entry)) == nil {
			c = open(t)
		}
		found, err := c.Find(context.Background(), []api.Query{{Kind: api.ByName, Terms: []string{"app"}}})
		if err != nil || len(found) == 0 {
			return
		}
		if records, err := c.Verify(context.Background(), found[0]); err == nil && (records[0].Version != "1" || found[0].Ref.ID != alice.IDs["app"]) {
			t.Errorf("%q was verified", b)
		}
	})
}
