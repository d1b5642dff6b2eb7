package nest

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing"
	"stork/signing/author"
	"stork/signing/policy"
)

// publishPolicy signs a policy that admits alice's packages.
func (o *origin) publishPolicy(version int64) {
	o.t.Helper()
	rules := policy.Policy{
		Format: policy.Format, Role: "o-alice", Repository: o.root,
		Rules: []policy.Rule{{Action: policy.Allow, Packages: "*", Publisher: "alice", Key: o.alice.Pin().Digest}},
	}
	text, err := rules.Encode()
	must(o.t, err)
	o.write(repo.DataPath(repo.DigestOf(text)), text)
	signed, err := o.owner.SignRole(author.RoleSpec{
		Version: version, Expires: time.Now().Add(24 * time.Hour), Repository: o.root,
		Targets: map[string]repo.Object{signing.PolicyTarget("alice"): repo.ObjectOf(text)},
	})
	must(o.t, err)
	must(o.t, o.online.Publish(context.Background(), "o-alice", signed))
}

// carried is a signing.Source of nothing but what Trust says.
type carried map[string]api.TrustFile

func (c carried) Fetch(_ context.Context, path string, _ int64) ([]byte, error) {
	f, ok := c[path]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s did not come ahead", path)
	case f.Absent:
		return nil, fs.ErrNotExist
	}
	return f.Content, nil
}

// trustOf asks for what verifies the repository.
func trustOf(t *testing.T, n *Nest, guest string, root repo.Digest) carried {
	t.Helper()
	answer, err := n.Trust(context.Background(), guest, root, repo.Digest{})
	must(t, err)
	files := carried{}
	for _, f := range answer.Files {
		if _, twice := files[f.Path]; twice {
			t.Errorf("%s came twice", f.Path)
		}
		files[f.Path] = f
	}
	return files
}

// verify goes the way of a guest that knows its pins, and returns the digests
// of policy and index root.
func (o *origin) verify(ctx context.Context, t *testing.T, files carried) (rules, index repo.Digest) {
	t.Helper()
	guest, err := signing.Open(signing.Options{Dir: filepath.Join(t.TempDir(), "trust"), Root: o.root, Disk: durable.Disk{}})
	must(t, err)
	s, err := guest.Refresh(ctx, files)
	must(t, err)
	pin, err := s.FindRole(ctx, o.owner.Pin().Digest)
	must(t, err)
	policyObject, err := s.Lookup(ctx, pin, signing.PolicyTarget("alice"))
	must(t, err)
	indexObject, err := s.Lookup(ctx, o.alice.Pin(), signing.IndexTarget("alice"))
	must(t, err)
	for _, object := range []repo.Object{policyObject, indexObject} {
		if b, err := files.Fetch(ctx, repo.DataPath(object.Digest), object.Size); err != nil || repo.ObjectOf(b) != object {
			t.Errorf("document %s: %v", object.Digest, err)
		}
	}
	return policyObject.Digest, indexObject.Digest
}

// TestTrust: one answer is all that a guest needs to verify its owner's policy
// and the index roots, of each snapshot anew, and without the repository.
func TestTrust(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	o.publishPolicy(1)
	o.publish(hello("one"))
	n := startNest(t, o)
	_, err := n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: o.owner.Pin().Digest})
	must(t, err)
	if files := trustOf(t, n, "g1", o.root); len(files) > 0 {
		t.Errorf("before the first refresh: %d files", len(files))
	}
	refreshed(t, n)
	_, first := o.verify(ctx, t, trustOf(t, n, "g1", o.root))
	o.publish(hello("two"))
	refreshed(t, n)
	o.server.Close()
	if _, second := o.verify(ctx, t, trustOf(t, n, "g1", o.root)); second == first || second != o.index.Object.Digest {
		t.Errorf("index root %s after %s, want %s", second, first, o.index.Object.Digest)
	}
	if _, err := n.Trust(ctx, "g1", repo.DigestOf(nil), repo.Digest{}); Explain(err).Code != api.NotFound {
		t.Errorf("another repository: %v", err)
	}
	if _, err := n.Trust(ctx, "g2", o.root, repo.Digest{}); Explain(err).Code != api.NotFound {
		t.Errorf("another guest: %v", err)
	}
}

// TestTrustKnown: who knows the files is told that they are the same, and gets
// the documents; not once there are others.
func TestTrustKnown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	o.publishPolicy(1)
	o.publish(hello("one"))
	n := startNest(t, o)
	_, err := n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: o.owner.Pin().Digest})
	must(t, err)
	refreshed(t, n)
	all, err := n.Trust(ctx, "g1", o.root, repo.Digest{})
	must(t, err)
	if all.Same || len(all.Files) == 0 {
		t.Errorf("same: %v, %d files", all.Same, len(all.Files))
	}
	documents := 0
	for _, f := range all.Files {
		if repo.IsDataPath(f.Path) {
			documents++
		}
	}
	same, err := n.Trust(ctx, "g1", o.root, all.Digest())
	must(t, err)
	if !same.Same || len(same.Files) != documents || documents != 2 {
		t.Errorf("same: %v, %d files, want %d", same.Same, len(same.Files), documents)
	}
	o.publish(hello("two"))
	refreshed(t, n)
	if other, err := n.Trust(ctx, "g1", o.root, all.Digest()); err != nil || other.Same || other.Digest() == all.Digest() {
		t.Errorf("after a change: %+v, %v", other, err)
	}
}

// TestQueryDocuments: the documents that come with few entries verify them.
func TestQueryDocuments(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	var specs []fixtures.Spec
	for i := range api.FewEntries + 1 {
		specs = append(specs, hello(fmt.Sprintf("pkg%d", i)))
	}
	o.publish(specs...)
	n := startNest(t, o)
	refreshed(t, n)
	_, err := n.Read(ctx, o.root, repo.DataPath(o.ids["pkg1"])) // from now on the nest holds this record
	must(t, err)
	ask := func(terms ...string) *api.QueryResponse {
		response, err := n.Query(ctx, "g1", api.QueryRequest{Documents: true, Queries: []api.Query{{Index: o.index.Object.Digest, Kind: api.ByGlob, Terms: terms}}})
		must(t, err)
		return response
	}
	for name, held := range map[string]bool{"pkg1": true, "pkg2": false} {
		docs := index.Documents{o.index.Object.Digest: o.docs[o.index.Object.Digest]}
		for _, b := range ask(name).Documents {
			docs[repo.DigestOf(b)] = b
		}
		finder, err := index.Find(ctx, docs, o.index.Object)
		must(t, err)
		found, err := finder.Named(ctx, repo.Name(name))
		if err != nil || len(found) != 1 {
			t.Errorf("%s: %d entries, %v", name, len(found), err)
		}
		if _, ok := docs[o.ids[name]]; ok != held {
			t.Errorf("%s: its record came: %v, want %v", name, ok, held)
		}
	}
	for _, term := range []string{"*", "nothing"} {
		if got := ask(term).Documents; len(got) > 0 {
			t.Errorf("%d documents for %q", len(got), term)
		}
	}
}

// TestTrustOfStrangers: guests whose owner the repository does not know, or who
// has no policy there, get the repository's own roles, to see that for
// themselves.
func TestTrustOfStrangers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	refreshed(t, n)
	addGuest(t, n, "stranger")
	_, err := n.AddGuest(ctx, api.GuestRequest{Name: "early", Owner: o.owner.Pin().Digest}) // no policy yet
	must(t, err)
	for _, name := range []string{"stranger", "early"} {
		guest, err := signing.Open(signing.Options{Dir: filepath.Join(t.TempDir(), "trust"), Root: o.root, Disk: durable.Disk{}})
		must(t, err)
		_, err = guest.Refresh(ctx, trustOf(t, n, name, o.root))
		must(t, err)
	}
}

// TestProof: what a proof brings verifies the packages that were asked for,
// with the records that the nest did not have; nothing else comes.
func TestProof(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	var specs []fixtures.Spec
	for i := range 40 {
		specs = append(specs, hello(fmt.Sprintf("pkg%d", i)))
	}
	o.publish(specs...)
	n := startNest(t, o)
	refreshed(t, n)
	ask := func(root repo.Digest, packages ...api.ProofPackage) ([][]byte, error) {
		var documents [][]byte
		err := n.Proof(ctx, root, api.ProofRequest{Index: o.index.Object.Digest, Packages: packages},
			func(b []byte) error { documents = append(documents, b); return nil })
		return documents, err
	}
	var wanted []api.ProofPackage
	docs := index.Documents{o.index.Object.Digest: o.docs[o.index.Object.Digest]}
	for i := range 20 {
		name := fmt.Sprintf("pkg%d", i)
		wanted = append(wanted, api.ProofPackage{Name: repo.Name(name), Record: o.ids[name]})
	}
	got, err := ask(o.root, wanted...)
	must(t, err)
	for _, b := range got {
		docs[repo.DigestOf(b)] = b
	}
	finder, err := index.Find(ctx, docs, o.index.Object)
	must(t, err)
	for _, p := range wanted {
		found, err := finder.Named(ctx, p.Name)
		if err != nil || len(found) != 1 || found[0].Record.Digest != p.Record {
			t.Errorf("%s: %v, %v", p.Name, found, err)
		}
		if _, ok := docs[p.Record]; !ok {
			t.Errorf("%s: its record did not come", p.Name)
		}
	}
	if most := 20 + 1<<finder.Root.Bits + len(finder.Root.Tables); len(got) > most {
		t.Errorf("%d documents for 20 packages, want %d at most", len(got), most)
	}
	if got, err := ask(o.root, api.ProofPackage{Name: "pkg1", Record: repo.DigestOf(nil)}); err != nil || len(got) > 2 {
		t.Errorf("a record that is nobody's: %d documents, %v", len(got), err)
	}
	if _, err := ask(repo.DigestOf(nil)); Explain(err).Code != api.NotFound {
		t.Errorf("another repository: %v", err)
	}
	if _, err := ask(o.root, make([]api.ProofPackage, api.MaxProof+1)...); Explain(err).Code != api.TooLarge {
		t.Errorf("too many packages: %v", err)
	}
}
