package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"stork/repo"
)

// The list that is fetched: what a guest's packages look like at their
// smallest.
const (
	smallFiles = 1000
	smallSize  = 50_000
	atOnce     = 16
)

// smallOrigin serves files from the disk, as a repository does.
func smallOrigin(b *testing.B) (url string, objects []repo.Object) {
	b.Helper()
	dir := b.TempDir()
	text := content(smallSize)
	for i := range smallFiles {
		binary.LittleEndian.PutUint64(text, uint64(i))
		o := repo.ObjectOf(text)
		objects = append(objects, o)
		path := filepath.Join(dir, repo.BlobPath(o.Digest))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	b.Cleanup(server.Close)
	return server.URL, objects
}

// BenchmarkSmallFiles fetches 1 000 files of 50 KB, 16 at a time.
func BenchmarkSmallFiles(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	url, objects := smallOrigin(b)
	b.Run("fetch", func(b *testing.B) {
		dir := b.TempDir()
		f, err := Start(context.Background(), Options{
			Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Spool: filepath.Join(dir, "spool"),
			SocketDir: filepath.Join(dir, "s"), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			fetchAll(b, f, url, objects)
		}
		b.ReportMetric(smallFiles*float64(b.N)/b.Elapsed().Seconds(), "files/s")
	})
	b.Run("aria2c", func(b *testing.B) {
		aria, err := exec.LookPath("aria2c")
		if err != nil {
			b.Skip("needs aria2c: make deps")
		}
		var list strings.Builder
		for _, o := range objects {
			fmt.Fprintf(&list, "%s/%s\n", url, repo.BlobPath(o.Digest))
		}
		for b.Loop() {
			cmd := exec.CommandContext(b.Context(), aria, "-j", fmt.Sprint(atOnce), "-q", "-i", "-", "-d", b.TempDir())
			cmd.Stdin = strings.NewReader(list.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, bytes.TrimSpace(out))
			}
		}
		b.ReportMetric(smallFiles*float64(b.N)/b.Elapsed().Seconds(), "files/s")
	})
}

// fetchAll brings every object, and drops it.
func fetchAll(b *testing.B, f *Fetcher, url string, objects []repo.Object) {
	b.Helper()
	work := make(chan repo.Object)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for o := range work {
				file, _, err := f.Blob(b.Context(), Request{BaseURL: url, Path: repo.BlobPath(o.Digest), Object: o})
				if err != nil {
					b.Error(err)
					continue
				}
				file.Close()
				if err := f.Discard(o); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, o := range objects {
		work <- o
	}
	close(work)
	workers.Wait()
}
