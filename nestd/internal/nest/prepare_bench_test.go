package nest

import (
	"context"
	"fmt"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
)

// BenchmarkPrepare measures the first prepare of packages of 20 files: record,
// download, unpack, store, commit.
func BenchmarkPrepare(b *testing.B) {
	const packages = 40
	o := newOrigin(b)
	var specs []fixtures.Spec
	for p := range packages {
		spec := fixtures.Spec{Name: fmt.Sprintf("p%02d", p)}
		for f := range 20 {
			spec.Files = append(spec.Files, fixtures.Text(fmt.Sprintf("/opt/%s/%d", spec.Name, f), fmt.Sprintf("%s %d\n", spec.Name, f)))
		}
		specs = append(specs, spec)
	}
	o.publish(specs...)
	n, err := openNestAt(context.Background(), b.TempDir(), o.pin(), noFaults, discard{})
	must(b, err)
	defer n.Close()
	_, err = n.Refresh(context.Background())
	must(b, err)
	_, err = n.AddGuest(context.Background(), api.GuestRequest{Name: "g1", Owner: repo.DigestOf(nil)})
	must(b, err)
	next := 0
	for b.Loop() {
		if next == packages {
			b.Skip("no packages left: use -benchtime 40x or less")
		}
		if _, err := prepareAll(n, "g1", o, specs[next].Name); err != nil {
			b.Fatal(err)
		}
		next++
	}
}
