package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/api"
	"stork/repo/internal/check"
	"stork/repo/internal/ingest"
	"stork/repo/internal/uploadtest"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/policy"
)

func publish(t *testing.T, in *ingest.Ingest, u *uploadtest.Upload) {
	t.Helper()
	ctx := t.Context()
	b, err := json.Marshal(u.Request())
	if err != nil {
		t.Fatal(err)
	}
	session, err := in.Open(ctx, u.Name, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Receive(ctx, u.Name, session.Session, u.Tar(session.Missing)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Commit(ctx, u.Name, session.Session); err != nil {
		t.Fatal(err)
	}
}

// populated is a repository with one of everything: packages in several
// versions of a role, a policy, a pack, deltas.
func populated(t *testing.T) *uploadtest.World {
	t.Helper()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{PackFrom: 1}, 2)
	for step, packages := range []int{20, 6, 5} { // two shards: so there are deltas
		var blobs [][]byte
		for n := range packages {
			spec := fixtures.Spec{Name: fmt.Sprintf("pkg%d", n), Version: fmt.Sprint(step)}
			if n == 0 {
				spec.Files = []fixtures.File{fixtures.Noise("/opt/noise"+spec.Version, repo.MinSwarm)}
			}
			blobs = append(blobs, fixtures.MustRPM(t, spec))
		}
		u := alice.Prepare(t, blobs...)
		publish(t, in, u)
		alice.Published(u)
	}
	text, err := (&policy.Policy{Format: policy.Format, Role: "o-alice", Rules: []policy.Rule{}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	publish(t, in, alice.PrepareOwner(t, signing.PolicyTarget("alice"), text))
	return w
}

func problems(t *testing.T, w *uploadtest.World) []string {
	t.Helper()
	report, err := check.Run(context.Background(), w.Home, 2)
	if err != nil {
		t.Fatal(err)
	}
	return report.Problems
}

// TestPiecesOfAnotherBlob finds an info dictionary that nobody has compared
// with the blob: all signatures and digests are right.
func TestPiecesOfAnotherBlob(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	blob := fixtures.MustRPM(t, fixtures.Spec{Name: "a", Files: []fixtures.File{fixtures.Noise("/opt/a", 100<<10)}})
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	pkg.Info.Pieces[0] ^= 1
	pkg.Record.Swarm = pkg.Info.Swarm()
	changed := uploadtest.Encode(t, pkg.Record, pkg.Files, blob)
	changed.Info = pkg.Info.Encode()
	u := alice.PreparePackages(t, alice.Tree, changed)
	for _, o := range u.Objects {
		path := repo.DataPath(o.Digest)
		if o.Kind == api.Blob {
			path = repo.BlobPath(o.Digest)
		}
		path = w.Home.TreePath(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, u.Content[o.Digest])
	}
	metadata, err := w.Home.Metadata()
	if err == nil {
		err = metadata.Publish(t.Context(), u.Name, u.Signed)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := problems(t, w); len(got) != 1 || !strings.Contains(got[0], "other pieces") {
		t.Errorf("problems are %q, want one about pieces", got)
	}
}

// TestEveryFlippedByteIsFound flips a bit in each file of the tree, at three
// places, and removes each file.
func TestEveryFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	w := populated(t)
	for _, p := range problems(t, w) {
		t.Fatalf("before anything is changed: %s", p)
	}
	var files []string
	err := filepath.WalkDir(w.Home.Tree(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, path := range files {
		// Many files are alike; a few of each directory will do.
		top, _ := filepath.Rel(w.Home.Tree(), path)
		if kind := filepath.Dir(top)[:4]; kind != "meta" && kind != "keys" {
			if kinds[kind]++; kinds[kind] > 8 {
				continue
			}
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, len(good) / 2, len(good) - 1} {
			bad := bytes.Clone(good)
			bad[at] ^= 4
			rewrite(t, path, bad)
			if len(problems(t, w)) == 0 {
				t.Errorf("%s: a flipped bit at %d of %d is not found", top, at, len(good))
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		// Packs and deltas are shortcuts, and old snapshots and targets are asked for
		// by nobody for long: they may be missing.
		if len(problems(t, w)) == 0 && !expendable(w, top) {
			t.Errorf("%s: that it is missing is not found", top)
		}
		rewrite(t, path, good)
	}
	if kinds["pack"] != 1 || kinds["delt"] == 0 || kinds["blob"] == 0 || kinds["data"] == 0 {
		t.Errorf("the repository is not as the test wants it: %v", kinds)
	}
	for _, p := range problems(t, w) {
		t.Errorf("after everything was put back: %s", p)
	}
}

func expendable(w *uploadtest.World, path string) bool {
	if dir := filepath.Dir(filepath.Dir(path)); dir == "packs" || dir == "deltas" {
		return true
	}
	versions, err := w.Home.Versions()
	if err != nil {
		return false
	}
	var version int64
	var role string
	if _, err := fmt.Sscanf(filepath.Base(path), "%d.%s", &version, &role); err != nil {
		return false
	}
	role = role[:max(0, len(role)-len(".json"))]
	return filepath.Dir(path) == "metadata" && role != "root" &&
		(role == "snapshot" && version < versions.Snapshot || version < versions.Roles[role])
}

func rewrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
