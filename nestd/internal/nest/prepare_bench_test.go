package nest

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// BenchmarkPrefetchSmall has 1 000 packages of 50 KB put into the store, from
// their records to their layers.
func BenchmarkPrefetchSmall(b *testing.B) {
	const packages = 1000
	o := newOrigin(b)
	random := rand.NewChaCha8([32]byte{1})
	var specs []fixtures.Spec
	var request api.PrefetchRequest
	for p := range packages {
		text := make([]byte, 48_000)
		_, _ = random.Read(text) // never fails
		name := fmt.Sprintf("p%04d", p)
		specs = append(specs, fixtures.Spec{Name: name, Files: []fixtures.File{fixtures.Text("/opt/"+name, string(text))}})
		request.Packages = append(request.Packages, name)
	}
	o.publish(specs...)
	for b.Loop() {
		b.StopTimer()
		n, err := openNestAt(context.Background(), b.TempDir(), o.pin(), noFaults, discard{})
		must(b, err)
		_, err = n.Refresh(context.Background())
		must(b, err)
		b.StartTimer()
		done, err := n.Prefetch(context.Background(), request)
		must(b, err)
		for _, p := range done {
			if p.Error != nil {
				b.Fatal(p.Error)
			}
		}
		b.StopTimer()
		must(b, n.Close())
		b.StartTimer()
	}
	b.ReportMetric(packages*float64(b.N)/b.Elapsed().Seconds(), "packages/s")
}
