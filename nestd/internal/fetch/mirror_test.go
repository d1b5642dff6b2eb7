package fetch

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/repo"
)

// TestMirrors wants a blob and a document from a mirror when the repository
// damages the one and does not have the other.
func TestMirrors(t *testing.T) {
	t.Parallel()
	blob := content(2 << 20)
	object := repo.ObjectOf(blob)
	hasher := repo.NewPieceHasher(object.Size)
	_, _ = hasher.Write(blob) // never fails
	info := hasher.Info(object.Digest).Encode()
	infoObject := repo.ObjectOf(info)
	document := content(5000)
	serve := func(fault transfertest.Fault, documents ...[]byte) *httptest.Server {
		blobs := transfertest.Handler(blob, fault)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, text := range documents {
				if strings.HasSuffix(r.URL.Path, "/"+repo.DataPath(repo.DigestOf(text))) {
					_, _ = w.Write(text)
					return
				}
			}
			if strings.HasPrefix(r.URL.Path, "/data") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			blobs.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		return server
	}
	repository, mirror := serve(transfertest.Corrupt, info), serve(transfertest.Healthy, document)
	f := startWith(t, t.TempDir(), Config{Mirrors: map[string][]string{repository.URL + "/": {mirror.URL + "/tree"}}})
	ctx := context.Background()
	file, result, err := f.Blob(ctx, Request{BaseURL: repository.URL, Path: repo.BlobPath(object.Digest), Object: object, Info: &infoObject})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Log(result.Describe())
	for _, entry := range result.Sources {
		if corrupt := "http://"+entry.Address == repository.URL; corrupt != (entry.Used == 0) || corrupt != (entry.Verdict > 0) || entry.Received > object.Size {
			t.Errorf("%+v", entry)
		}
	}
	if len(result.Sources) != 2 || !strings.Contains(result.Describe(), "banned") {
		t.Errorf("sources: %s", result.Describe())
	}
	got, err := f.Get(ctx, repository.URL, repo.DataPath(repo.DigestOf(document)), 5000)
	if err != nil || !bytes.Equal(got, document) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := f.Get(ctx, repository.URL, repo.DataPath(repo.Digest{1}), 5000); err == nil {
		t.Error("what nobody has was got")
	}
}

// TestWrongInfo wants a blob without pieces when what says what they are is
// wrong.
func TestWrongInfo(t *testing.T) {
	t.Parallel()
	blob, other := content(1<<20), content(1<<20+1)
	hasher := repo.NewPieceHasher(int64(len(other)))
	_, _ = hasher.Write(other) // never fails
	info := hasher.Info(repo.DigestOf(other)).Encode()
	f := startWith(t, t.TempDir(), Config{})
	for _, text := range [][]byte{info, []byte("d4:infoe"), nil} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/data") {
				_, _ = w.Write(text)
				return
			}
			_, _ = w.Write(blob)
		}))
		object, infoObject := repo.ObjectOf(blob), repo.ObjectOf(text)
		file, _, err := f.Blob(t.Context(), Request{BaseURL: server.URL, Path: "blob", Object: object, Info: &infoObject})
		server.Close()
		if err != nil {
			t.Errorf("info %.20q: %v", text, err)
			continue
		}
		file.Close()
		must(t, f.Discard(object))
	}
}
