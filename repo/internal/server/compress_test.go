package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stork/repo"
	"stork/repo/internal/uploadtest"
)

// document is a file of the tree with that content.
func document(t *testing.T, w *uploadtest.World, content []byte) string {
	t.Helper()
	p := repo.DataPath(repo.DigestOf(content))
	full := w.Home.TreePath(p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func serverOf(t *testing.T, w *uploadtest.World) *Server {
	t.Helper()
	s, err := New(t.Context(), Options{Home: w.Home, Log: uploadtest.Quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestCompressed asks for documents in the ways that clients do.
func TestCompressed(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	text := []byte(`["` + strings.Repeat("what file lists repeat ", 1000) + `"]`)
	noise := make([]byte, 8<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	long, plain, short := document(t, w, text), document(t, w, noise), document(t, w, []byte("{}"))
	h := serverOf(t, w).Handler()
	tag := `"` + repo.DigestOf(text).Hex() + `-gzip"`
	tests := []struct {
		name, path, accept string
		header             [2]string
		status             int
		gzipped            bool
	}{
		{"as Go asks", long, "gzip", [2]string{}, 200, true},
		{"as browsers ask", long, "br;q=1.0, GZIP;q=0.8, *;q=0.1", [2]string{}, 200, true},
		{"again", long, "gzip", [2]string{"If-None-Match", tag}, 304, false},
		{"again without", long, "", [2]string{"If-None-Match", tag}, 200, false},
		{"not at all", long, "", [2]string{}, 200, false},
		{"refused", long, "gzip;q=0", [2]string{}, 200, false},
		{"refused at length", long, "gzip; q=0.000", [2]string{}, 200, false},
		{"other codings", long, "br, zstd", [2]string{}, 200, false},
		{"a range", long, "gzip", [2]string{"Range", "bytes=0-9"}, 206, false},
		{"noise", plain, "gzip", [2]string{}, 200, false},
		{"short", short, "gzip", [2]string{}, 200, false},
	}
	for _, c := range tests {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := httptest.NewRequest(method, "/"+c.path, nil)
			if c.accept != "" {
				r.Header.Set("Accept-Encoding", c.accept)
			}
			if c.header[0] != "" {
				r.Header.Set(c.header[0], c.header[1])
			}
			out := httptest.NewRecorder()
			h.ServeHTTP(out, r)
			answer := out.Result()
			if answer.StatusCode != c.status || (answer.Header.Get("Content-Encoding") == "gzip") != c.gzipped {
				t.Errorf("%s: %s answers %s, %v", c.name, method, answer.Status, answer.Header)
			}
			if c.path == long && answer.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: caches are not told that there are two forms", c.name)
			}
			if method == http.MethodHead || c.status != 200 {
				continue
			}
			if length := answer.Header.Get("Content-Length"); length != fmt.Sprint(out.Body.Len()) {
				t.Errorf("%s: the length is given as %s, %d bytes come", c.name, length, out.Body.Len())
			}
			if (answer.Header.Get("ETag") == tag) != c.gzipped {
				t.Errorf("%s: tag %s", c.name, answer.Header.Get("ETag"))
			}
			if got := body(t, answer, c.gzipped); repo.DataPath(repo.DigestOf(got)) != c.path {
				t.Errorf("%s: %d bytes, which are something else", c.name, len(got))
			}
		}
	}
}

func body(t *testing.T, answer *http.Response, gzipped bool) []byte {
	t.Helper()
	r := io.Reader(answer.Body)
	if gzipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCompressorIsBounded compresses more than is kept.
func TestCompressorIsBounded(t *testing.T) {
	t.Parallel()
	c := newCompressor(1)
	c.keep("large", make([]byte, compressKeep/2))
	for n := range 100 {
		c.keep(fmt.Sprint(n), make([]byte, compressKeep/50))
	}
	var sum int
	for _, b := range c.kept {
		sum += len(b) + keepCost
	}
	if sum != c.bytes || sum > compressKeep || len(c.kept) < 20 {
		t.Errorf("%d documents of %d bytes are kept, counted as %d", len(c.kept), sum, c.bytes)
	}
}

// TestCompressorWaits lets a client go that does not want to wait any longer.
func TestCompressorWaits(t *testing.T) {
	t.Parallel()
	c := newCompressor(1)
	c.tokens <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.gzipped(ctx, "x", nil, 1); err == nil {
		t.Error("two documents are compressed at the same time on one processor")
	}
}

// TestKinds counts each file as what it is.
func TestKinds(t *testing.T) {
	t.Parallel()
	d := repo.DigestOf(nil)
	for path, want := range map[string]string{
		repo.TimestampPath: "timestamp", repo.MetadataPath("root", 2): "root", repo.MetadataPath("snapshot", 7): "snapshot",
		repo.MetadataPath("targets", 1): "targets", repo.MetadataPath("p-alice", 3): "role", repo.MetadataPath("o-root", 3): "role",
		repo.KeyDocumentPath("p-alice", 1): "keys", repo.DataPath(d): "data", repo.BlobPath(d): "blobs",
		repo.PackPath(d): "packs", repo.DeltaPath(d, d): "deltas", "../etc": "other", "timestamp/x": "other", "": "other",
	} {
		if got := kindOf(path); got != want {
			t.Errorf("%q is counted as %q, want %q", path, got, want)
		}
	}
}

// TestDeltaIsServed serves a delta as what never changes.
func TestDeltaIsServed(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	s := serverOf(t, w)
	p := repo.DeltaPath(repo.DigestOf([]byte("old")), repo.DigestOf([]byte("new")))
	full := w.Home.TreePath(p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("a delta "), 1000)
	if err := os.WriteFile(full, content, 0o644); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/"+p, nil)
	r.Header.Set("Accept-Encoding", "gzip")
	out := httptest.NewRecorder()
	s.Handler().ServeHTTP(out, r)
	if out.Code != 200 || !bytes.Equal(out.Body.Bytes(), content) || out.Header().Get("Cache-Control") != immutable {
		t.Errorf("%d, %d bytes, %v", out.Code, out.Body.Len(), out.Header())
	}
	if got := s.counters.stats(); got.Bytes["deltas"] != int64(len(content)) || got.MetaBytes != int64(len(content)) {
		t.Errorf("counted as %+v", got)
	}
}
