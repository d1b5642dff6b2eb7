package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"stork/nestd/api"
	"stork/repo"
)

// TestKnown: who knows what comes ahead is told that it is the same and gets
// the documents; what was brought has a digest unless more was asked for.
func TestKnown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	document := repo.ObjectOf([]byte("document"))
	all := api.Trust{Files: []api.TrustFile{
		{Path: "metadata/2.root.json", Absent: true}, {Path: repo.TimestampPath, Content: []byte("now")},
		{Path: repo.DataPath(document.Digest), Content: []byte("document")},
	}}
	n := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, api.TrustRoute):
			_, _ = io.WriteString(w, "asked")
		case r.URL.Query().Get("known") == all.Digest().Hex():
			_ = json.NewEncoder(w).Encode(api.Trust{Same: true, Files: all.Files[2:]})
		default:
			_ = json.NewEncoder(w).Encode(all)
		}
	})
	fetch := func(r *Repository, path, want string) {
		t.Helper()
		if b, err := r.Fetch(ctx, path, 100); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	brought := func(r *Repository, want repo.Digest, whole bool) {
		t.Helper()
		if d, ok := r.Brought(); ok != whole || ok && d != want {
			t.Errorf("brought %s, %v", d, ok)
		}
	}
	known := func(r *Repository, d repo.Digest, want bool) {
		t.Helper()
		if same, err := r.Known(ctx, d); err != nil || same != want {
			t.Errorf("known %v, %v; want %v", same, err, want)
		}
	}
	same := n.Repository(repo.DigestOf(nil))
	brought(same, repo.Digest{}, false)
	known(same, all.Digest(), true)
	brought(same, repo.Digest{}, false)
	fetch(same, repo.DataPath(document.Digest), "document")

	other := n.Repository(repo.DigestOf(nil))
	known(other, repo.DigestOf(nil), false)
	fetch(other, repo.TimestampPath, "now")
	fetch(other, repo.DataPath(repo.DigestOf(nil)), "asked")
	brought(other, all.Digest(), true)
	fetch(other, repo.TimestampPath, "asked")
	brought(other, repo.Digest{}, false)
}
