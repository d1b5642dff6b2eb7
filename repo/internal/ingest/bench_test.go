package ingest_test

import (
	"fmt"
	"testing"

	"stork/fixtures"
	"stork/repo/internal/ingest"
	"stork/repo/internal/uploadtest"
)

// BenchmarkUpload takes packages of a made-up distribution, from the first
// byte to the publication.
func BenchmarkUpload(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bulk := fixtures.Bulk{Packages: n}
			packages := make([]uploadtest.Package, n)
			for i := range packages {
				packages[i] = uploadtest.Read(b, fixtures.MustRPM(b, bulk.Spec(i)))
			}
			for b.Loop() {
				b.StopTimer()
				w := uploadtest.NewWorld(b)
				alice := w.Publisher(b, "alice")
				u := alice.PreparePackages(b, alice.Tree, packages...)
				in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{}, 2)
				b.StartTimer()
				if err := send(b.Context(), in, u); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/package")
		})
	}
}
