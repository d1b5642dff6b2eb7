package catalog_test

import (
	"context"
	"testing"

	"stork/client/catalog"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
)

// TestUnaskedDocuments: what comes with the answer to a query is not asked for
// again; what is none of the index's changes nothing.
func TestUnaskedDocuments(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	var read [][]byte
	collect := func(_ repo.Object, b []byte) []byte { read = append(read, b); return b }
	for _, tt := range []struct {
		what    string
		unasked func() [][]byte
		reads   bool
	}{
		{"nothing comes", func() [][]byte { return nil }, true},
		{"nonsense comes", func() [][]byte { return [][]byte{nil, []byte("{}"), append(read[0], ' ')} }, true},
		{"everything comes", func() [][]byte { return read }, false},
	} {
		n := newNest(t, r, alice)
		n.unasked = tt.unasked()
		c := newGuest(t, r, alice).mustOpen(n)
		found := find(t, c, "app")
		n.document, read = collect, nil
		records, err := c.Verify(ctx, found[0])
		if err != nil || records[0].Name != "app" || (len(read) > 0) != tt.reads {
			t.Errorf("%s: %v, %d documents read", tt.what, err, len(read))
		}
		if len(read) == 0 {
			read = n.unasked
		}
	}
}

// proving is a tree that brings proofs.
type proving struct {
	*files
	brought [][]byte
	err     error
	asked   int
}

// Proof implements [catalog.Prover].
func (p *proving) Proof(_ context.Context, _ repo.Digest, packages []api.ProofPackage) ([][]byte, error) {
	p.asked += len(packages)
	return p.brought, p.err
}

// TestProof: what a proof brings is not asked for again, what it does not
// bring is, and what is none of the index's changes nothing.
func TestProof(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"), lib("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	var read [][]byte
	for _, tt := range []struct {
		what  string
		proof func() ([][]byte, error)
		reads bool
		fails bool
	}{
		{"nothing comes", func() ([][]byte, error) { return nil, nil }, true, false},
		{"nonsense comes", func() ([][]byte, error) { return [][]byte{nil, []byte("{}"), append(read[0], ' ')}, nil }, true, false},
		{"everything comes", func() ([][]byte, error) { return read, nil }, false, false},
		{"it breaks off", func() ([][]byte, error) { return nil, context.DeadlineExceeded }, false, true},
	} {
		n := newNest(t, r, alice)
		p := &proving{}
		p.brought, p.err = tt.proof()
		n.wrap = func(f *files) catalog.Files { p.files = f; return p }
		c := newGuest(t, r, alice).mustOpen(n)
		found := find(t, c, "app", "lib")
		var now [][]byte
		n.document = func(_ repo.Object, b []byte) []byte { now = append(now, b); return b }
		records, err := c.Verify(ctx, found...)
		if (err != nil) != tt.fails || (len(now) > 0) != tt.reads || p.asked != 2 {
			t.Errorf("%s: %d records, %v, %d documents read, %d packages asked for", tt.what, len(records), err, len(now), p.asked)
		}
		if tt.reads {
			read = now
		}
	}
}
