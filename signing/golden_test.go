package signing_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

// TestGolden holds every format to vectors that were written once: keys from
// fixed randomness sign the same bytes today, and a client reads them.
func TestGolden(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: tempDir(t), clock: start, versions: map[repo.Role]int64{}}
	w.tree, w.offline, w.online = filepath.Join(w.dir, "tree"), filepath.Join(w.dir, "offline"), filepath.Join(w.dir, "online")
	random := rand.NewChaCha8([32]byte{1})
	_, err := author.InitRepository(author.InitOptions{
		Tree: w.tree, OfflineDir: w.offline, OnlineDir: w.online, Now: w.now, Random: random,
	})
	check(t, err)
	w.repository, err = author.OpenRepository(w.tree, w.online, durable.Disk{}, w.now)
	check(t, err)
	for _, role := range []repo.Role{"p-alice", "o-alice"} {
		id, err := author.CreateIdentityWith(durable.Disk{}, filepath.Join(w.dir, "keys"), role, w.now(), author.KeySpec{Random: random})
		check(t, err)
		if role == "p-alice" {
			w.publisher = id
		} else {
			w.owner = id
		}
	}
	w.add(w.publisher, w.owner)
	w.publish(w.publisher, target("alice/index/root", "index 1"))
	w.publish(w.owner, target("alice/policy/default", "policy 1"))
	state := tempDir(t)
	wantLookup(t, w.clientIn(state, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 1")

	tree := copyTree(t, w.tree)
	trust, err := os.ReadFile(filepath.Join(state, "trust.json"))
	check(t, err)
	bundle, err := author.EncodeBundle(w.publisher, w.owner)
	check(t, err)
	vectors := files{
		"p-alice.key-document.json": w.publisher.Documents()[0],
		"p-alice.role.json":         tree["metadata/1.p-alice.json"],
		"o-alice.role.json":         tree["metadata/1.o-alice.json"],
		"targets.json":              tree["metadata/2.targets.json"],
		"trust.json":                trust,
		"alice.keys":                bundle,
	}
	for path, b := range tree {
		vectors["tree/"+path] = b
	}
	compare(t, vectors)

	golden := signing.Dir(filepath.Join("testdata", "tree"))
	first, err := golden.Fetch(context.Background(), repo.MetadataPath("root", 1), repo.MaxRoot)
	check(t, err)
	c, err := signing.Open(signing.Options{Dir: tempDir(t), Root: repo.DigestOf(first), Now: w.now})
	check(t, err)
	wantLookup(t, c, golden, w.owner, "alice/policy/default", "policy 1")
}

func compare(t *testing.T, vectors files) {
	t.Helper()
	for name, got := range vectors {
		path := filepath.Join("testdata", filepath.FromSlash(name))
		if *update {
			check(t, os.MkdirAll(filepath.Dir(path), 0o755))
			check(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		check(t, err)
		if string(got) != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}
