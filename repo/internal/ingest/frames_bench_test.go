package ingest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/fixtures"
	"stork/repo/internal/ingest"
	"stork/repo/internal/uploadtest"
)

// BenchmarkFrames takes a package of 20 MB in 400 files, that compress about
// as programs and texts do, with frames and without.
func BenchmarkFrames(b *testing.B) {
	spec := fixtures.Spec{Name: "app", Compression: "zstd"}
	vocabulary := vocabulary()
	for n := range 400 {
		spec.Files = append(spec.Files, fixtures.File{Path: fmt.Sprintf("/opt/app/%03d", n), Content: words(vocabulary, 50_000, uint64(n))})
	}
	pkg := uploadtest.Read(b, fixtures.MustRPM(b, spec))
	for name, off := range map[string]bool{"with": false, "without": true} {
		b.Run(name, func(b *testing.B) {
			var busy time.Duration
			for b.Loop() {
				b.StopTimer()
				w := uploadtest.NewWorld(b)
				alice := w.Publisher(b, "alice")
				u := alice.PreparePackages(b, alice.Tree, pkg)
				in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{NoFrames: off}, 1)
				b.StartTimer()
				before := processorTime(b)
				if err := send(b.Context(), in, u); err != nil {
					b.Fatal(err)
				}
				busy += processorTime(b) - before
			}
			b.ReportMetric(float64(busy.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func vocabulary() [][]byte {
	r, words := rand.New(rand.NewPCG(1, 2)), make([][]byte, 4000)
	for i := range words {
		words[i] = make([]byte, 3+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	return words
}

// words is text of a vocabulary: it compresses to about two fifths.
func words(vocabulary [][]byte, size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var text bytes.Buffer
	for text.Len() < size {
		text.Write(vocabulary[r.IntN(1+r.IntN(len(vocabulary)))])
		text.WriteByte(' ')
	}
	return text.Bytes()[:size]
}
