package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

// serving is how a server answers the n-th request, from 0, for a blob.
type serving func(w http.ResponseWriter, r *http.Request, n int, blob []byte)

func whole(w http.ResponseWriter, blob []byte) { w.Write(blob) }

func abort() { panic(http.ErrAbortHandler) }

// ranged serves what was asked for.
func ranged(w http.ResponseWriter, r *http.Request, blob []byte) {
	var from int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
		whole(w, blob)
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(blob)-1, len(blob)))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(blob[from:])
}

// half sends the first half of what is left, and cuts the connection.
func half(w http.ResponseWriter, blob []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	w.Write(blob[:len(blob)/2])
	w.(http.Flusher).Flush()
	abort()
}

// TestBlobs fetches a package from servers that fail or do harm.
func TestBlobs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r, alice := published(t)
	for name, tt := range map[string]struct {
		serve serving
		want  api.Code // "": it works
	}{
		"honest": {func(w http.ResponseWriter, r *http.Request, _ int, b []byte) { ranged(w, r, b) }, ""},
		"cut once": {func(w http.ResponseWriter, r *http.Request, n int, b []byte) {
			if n == 0 {
				half(w, b)
			}
			ranged(w, r, b)
		}, ""},
		"cut once, no ranges": {func(w http.ResponseWriter, _ *http.Request, n int, b []byte) {
			if n == 0 {
				half(w, b)
			}
			whole(w, b)
		}, ""},
		"busy at first": {func(w http.ResponseWriter, r *http.Request, n int, b []byte) {
			if n < 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			ranged(w, r, b)
		}, ""},
		"endless after the end": {func(w http.ResponseWriter, _ *http.Request, _ int, b []byte) {
			for whole(w, b); ; {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, ""},
		"other range": {func(w http.ResponseWriter, r *http.Request, n int, b []byte) {
			if n == 0 {
				half(w, b)
			}
			w.Header().Set("Content-Range", "bytes 0-1/2")
			w.WriteHeader(http.StatusPartialContent)
		}, api.Unreachable},
		"always cut": {func(w http.ResponseWriter, _ *http.Request, _ int, b []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:100])
			w.(http.Flusher).Flush()
			abort()
		}, api.Unreachable},
		"short": {func(w http.ResponseWriter, _ *http.Request, n int, b []byte) { whole(w, b[:len(b)-1]) }, api.Unreachable},
		"one byte differs": {func(w http.ResponseWriter, _ *http.Request, _ int, b []byte) {
			b[len(b)-1] ^= 1
			whole(w, b)
		}, api.Untrusted},
		"something else": {func(w http.ResponseWriter, _ *http.Request, _ int, b []byte) { w.Write(make([]byte, len(b))) }, api.Untrusted},
		"gone":           {func(w http.ResponseWriter, _ *http.Request, _ int, _ []byte) { w.WriteHeader(http.StatusNotFound) }, api.NotFound},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, api.Unreachable},
		"redirect to a file": {func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, api.Unreachable},
		"silent": {func(_ http.ResponseWriter, r *http.Request, _ int, _ []byte) { <-r.Context().Done() }, api.Unreachable},
		"silent in body": {func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, api.Unreachable},
		"trickle": {func(w http.ResponseWriter, r *http.Request, _ int, b []byte) {
			for i := 0; r.Context().Err() == nil; i++ {
				w.Write(b[i : i+1])
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, api.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testBlob(t, r, alice, tt.serve, tt.want)
		})
	}
}

func testBlob(t *testing.T, r *world.Repository, alice *world.Publisher, serve serving, want api.Code) {
	server := proxy(t, r, serve)
	pins := alice.Pins()
	pins.Repositories[0].URL = server
	dir := world.TempDir(t)
	o := openOrigin(t, dir, pins, durable.Disk{})
	started := time.Now()
	_, err := prepareHello(o, alice)
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		checkLayer(t, o, alice)
		return
	}
	var wire *api.Error
	if !errors.As(err, &wire) || wire.Code != want || wire.Hint == "" {
		t.Fatalf("got %v, want code %s and a hint", err, want)
	}
	if left := spooled(t, dir); want == api.Untrusted && len(left) > 0 {
		t.Errorf("what is wrong was kept: %q", left)
	}
	// The same guest has it once the server is well.
	pins.Repositories[0].URL = r.Server.URL
	if _, err := prepareHello(o, alice); err != nil {
		t.Fatal(err)
	}
	checkLayer(t, o, alice)
}

// proxy serves the repository, its blobs as serve does.
func proxy(t *testing.T, r *world.Repository, serve serving) string {
	t.Helper()
	var n atomic.Int64
	files := http.FileServer(http.Dir(r.Tree))
	return newServer(t, func(w http.ResponseWriter, request *http.Request) {
		if !strings.HasPrefix(request.URL.Path, "/blobs/") {
			files.ServeHTTP(w, request)
			return
		}
		blob, err := os.ReadFile(filepath.Join(r.Tree, request.URL.Path))
		if err != nil {
			t.Error(err)
		}
		serve(w, request, int(n.Add(1)-1), blob)
	})
}

// TestDown: nobody listens.
func TestDown(t *testing.T) {
	t.Parallel()
	r, alice := published(t)
	o := openOrigin(t, t.TempDir(), alice.Pins(), durable.Disk{})
	r.Server.Close()
	_, err := o.Files(r.Root).Fetch(context.Background(), repo.TimestampPath, 1<<16)
	var wire *api.Error
	if !errors.As(err, &wire) || wire.Code != api.Unreachable || !strings.Contains(wire.Hint, "keeps working") {
		t.Errorf("got %v", err)
	}
	if _, err := o.Files(repo.DigestOf([]byte("other"))).Fetch(context.Background(), repo.TimestampPath, 1); err == nil {
		t.Error("a repository that is not pinned was asked")
	}
}

// TestDocuments: documents are checked, bounded and kept.
func TestDocuments(t *testing.T) {
	t.Parallel()
	r, alice := published(t)
	dir := t.TempDir()
	o := openOrigin(t, dir, alice.Pins(), durable.Disk{})
	files, ctx := o.Files(r.Root), context.Background()
	root := alice.IndexRoot()
	b, err := files.Document(ctx, root)
	if err != nil || repo.ObjectOf(b) != root {
		t.Fatalf("got %d bytes, %v", len(b), err)
	}
	kept := filepath.Join(dir, dataName, root.Digest.Hex())
	if err := os.WriteFile(kept, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := files.Document(ctx, root); err != nil || repo.ObjectOf(b) != root {
		t.Errorf("after damage: got %q, %v", b, err)
	}
	if b, err := os.ReadFile(kept); err != nil || repo.ObjectOf(b) != root {
		t.Errorf("the damaged copy stayed: %q, %v", b, err)
	}
	old := time.Now().Add(-keep - time.Hour)
	if err := os.Chtimes(kept, old, old); err != nil {
		t.Fatal(err)
	}
	openOrigin(t, dir, alice.Pins(), durable.Disk{})
	if _, err := os.Lstat(kept); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a document of last month is still there: %v", err)
	}
	other := repo.Object{Digest: root.Digest, Size: root.Size + 1}
	if b, err := files.Document(ctx, other); err == nil {
		t.Errorf("another size: got %d bytes", len(b))
	}
	if _, err := files.Document(ctx, repo.ObjectOf([]byte("nowhere"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v", err)
	}
	r.OnRequest(func(w http.ResponseWriter, _ *http.Request) bool {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return true
			}
		}
	})
	if _, err := files.Fetch(ctx, repo.TimestampPath, 1000); err == nil || !strings.Contains(err.Error(), "over 1000 bytes") {
		t.Errorf("endless: got %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := files.Fetch(cancelled, repo.TimestampPath, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
