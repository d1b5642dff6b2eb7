package nest

import (
	"context"
	"os"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
)

// TestStoreStats says why files are stored once, and how many guests do
// without copies.
func TestStoreStats(t *testing.T) {
	t.Parallel()
	same := fixtures.Text("/opt/x/same", "the same")
	one := fixtures.Spec{Name: "one", Files: []fixtures.File{same, fixtures.Text("/opt/x/one", "1"), fixtures.ConfigFile("/etc/one", "configuration")}}
	two := fixtures.Spec{Name: "two", Files: []fixtures.File{same, fixtures.Text("/opt/y/again", "the same")}}
	o, n := preparedFor(t, []string{"g1", "g2", "g3"}, []fixtures.Spec{one, two})
	ctx := context.Background()
	old := o.ids["one"]
	one.Version, one.Files[1] = "2", fixtures.Text("/opt/x/one", "2")
	o.publish(one)
	refreshed(t, n)
	if _, err := prepareAll(n, "g1", o, "one"); err != nil {
		t.Fatal(err)
	}
	must(t, n.State.SetReferences(ctx, "g1", []repo.Digest{o.ids["one"], o.ids["two"]}))
	must(t, n.State.SetReferences(ctx, "g2", []repo.Digest{o.ids["two"], old}))
	must(t, n.State.SetReferences(ctx, "g3", []repo.Digest{old}))
	got, err := n.StoreStats(ctx)
	must(t, err)
	files := func(n int) api.Amount { return api.Amount{Files: n, Bytes: int64(n) * 4096} }
	want := *got
	want.Layers, want.Objects, want.Trees, want.Unread = 3, 4, 0, 0
	want.Packaged, want.Stored = files(3+3+2), files(4)
	want.Saved = api.Savings{Within: files(1), Versions: files(2), Packages: files(1)}
	want.Guests = files(2 + 2) // of "two" and of the older "one", without its configuration
	want.LinkCopies, want.Loose, want.Times, want.Modes = api.Amount{}, api.Amount{}, api.Amount{}, api.Amount{}
	want.Bytes, want.ApparentBytes = want.Stored.Bytes+got.LayerBytes, want.Packaged.Bytes+got.LayerBytes
	if *got != want {
		t.Errorf("stats:\n%+v\nwant\n%+v", *got, want)
	}
	if got.DocumentBytes < 6*4096 || got.DatabaseBytes == 0 {
		t.Errorf("documents have %d bytes, want those of 3 records and 3 lists; the database has %d", got.DocumentBytes, got.DatabaseBytes)
	}

	// A lost list is told, and the rest is counted.
	layer, err := n.State.Layer(ctx, old)
	must(t, err)
	must(t, os.Remove(n.documents.path(layer.Manifest.Digest)))
	got, err = n.StoreStats(ctx)
	must(t, err)
	if got.Unread != 1 || got.Packaged.Files != 5 || got.Loose.Files != 1 {
		t.Errorf("with a lost list: %+v; want it unread, 5 files and a loose one", got)
	}
}
