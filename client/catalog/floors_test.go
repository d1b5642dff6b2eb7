package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"stork/fixtures/world"
	"stork/repo/durable"
	"stork/signing"
)

// TestFloors: what a catalog has admitted is the floor of the next one, also if
// writing it down failed at first (G5).
func TestFloors(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(app("1"))
	alice.PublishPolicy(0, alice.Allow("*"))
	old := filepath.Join(world.TempDir(t), "old")
	if err := os.CopyFS(old, os.DirFS(r.Tree)); err != nil {
		t.Fatal(err)
	}
	alice.Publish(app("2"))
	for k := 0; ; k++ {
		g := newGuest(t, r, alice)
		n := 0
		g.disk.Fault = func(durable.Step, string) (error, error) {
			if n++; n == k+1 {
				return errors.New("disk error"), nil
			}
			return nil, nil
		}
		_, err := g.open(newNest(t, r, alice))
		if (err != nil) != (n > k) {
			t.Errorf("step %d of %d: %v", k, n, err)
		}
		g.disk.Fault = nil
		g.mustOpen(newNest(t, r, alice))
		rolledBack := newNest(t, r, alice)
		rolledBack.trees[r.Root] = old
		if _, err := g.open(rolledBack); !errors.Is(err, signing.ErrUntrusted) {
			t.Errorf("step %d: older metadata: %v", k, err)
		}
		if n <= k {
			break
		}
	}
}
