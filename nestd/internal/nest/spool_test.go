package nest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"stork/fixtures"
	"stork/nestd/unpack"
	"stork/repo"
)

// TestSpoolChangedUnderfoot hands the unpacker another blob than the fetcher
// has verified: neither repository nor publisher is to blame.
func TestSpoolChangedUnderfoot(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	spec := hello("one")
	o.publish(spec)
	n := startNest(t, o)
	text, err := os.ReadFile(filepath.Join(o.tree, repo.DataPath(o.ids["one"])))
	must(t, err)
	record, err := repo.DecodeRecord(text)
	must(t, err)
	damaged := fixtures.MustRPM(t, spec)
	damaged[len(damaged)-20] ^= 1
	otherRecord := hello("one")
	otherRecord.Summary = "Another"
	for name, blob := range map[string][]byte{
		"another package":          fixtures.MustRPM(t, hello("two")),
		"another record":           fixtures.MustRPM(t, otherRecord),
		"damaged":                  damaged,
		"emptied":                  nil,
		"with something behind it": append(fixtures.MustRPM(t, spec), 0),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blob")
			must(t, os.WriteFile(path, blob, 0o644))
			file, err := os.Open(path)
			must(t, err)
			defer file.Close()
			b := &build{nest: n, job: &job{id: o.ids["one"]}, record: record, text: text, id: o.ids["one"]}
			stage, err := n.Store.Stage()
			must(t, err)
			_, _, err = b.unpack(context.Background(), stage, file)
			if !errors.Is(err, unpack.ErrBlob) || errors.Is(err, errMismatch) {
				t.Errorf("unpack: %v; want %v", err, unpack.ErrBlob)
			}
			must(t, stage.Discard())
		})
	}
	checkSound(t, n)
}
