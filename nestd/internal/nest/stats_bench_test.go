package nest

import (
	"context"
	"fmt"
	"testing"

	"stork/nestd/internal/state"
	"stork/repo"
)

// BenchmarkMeasure says what a nest with 400 packages of 120 files takes to
// tell what it holds, and what 100 guests use of it.
func BenchmarkMeasure(b *testing.B) {
	n := benchNest(b)
	ctx := context.Background()
	var ids []repo.Digest
	for i := range 400 {
		ids = append(ids, benchLayer(b, n, i, 120))
	}
	for i := range 100 {
		name := fmt.Sprintf("g%d", i)
		must(b, n.State.AddGuest(ctx, state.Guest{Name: name, Owner: repo.DigestOf([]byte{byte(i % 7)})}))
		must(b, n.State.SetReferences(ctx, name, ids[:i*4]))
	}
	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			stats, err := n.StoreStats(ctx)
			must(b, err)
			if stats.Packaged.Files != 48000 || stats.Unread != 0 {
				b.Fatalf("%+v", stats)
			}
		}
	})
	b.Run("usage", func(b *testing.B) {
		for b.Loop() {
			_, err := n.Usage(ctx)
			must(b, err)
		}
	})
}
