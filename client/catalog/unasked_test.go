package catalog_test

import (
	"context"
	"testing"

	"stork/fixtures/world"
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
		record, err := c.Verify(ctx, found[0])
		if err != nil || record.Name != "app" || (len(read) > 0) != tt.reads {
			t.Errorf("%s: %v, %d documents read", tt.what, err, len(read))
		}
		if len(read) == 0 {
			read = n.unasked
		}
	}
}
