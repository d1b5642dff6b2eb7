package author_test

import (
	"os"
	"path/filepath"
	"testing"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing/author"
)

func TestBundle(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	id := func(role repo.Role) *author.Identity {
		i, err := author.CreateIdentity(durable.Disk{}, dir, role, start)
		check(t, err)
		return i
	}
	alice, owner, bob := id("p-alice"), id("o-alice"), id("p-bob")
	check(t, alice.Revise(durable.Disk{}, start, author.Revision{ReplaceMaster: true}))
	b, err := author.EncodeBundle(alice, owner)
	check(t, err)
	bundle, err := author.DecodeBundle(b)
	check(t, err)
	if bundle.Publisher() != "alice" || len(bundle.Documents["p-alice"]) != 2 || len(bundle.Documents["o-alice"]) != 1 {
		t.Errorf("got %v", bundle)
	}
	if _, err := author.EncodeBundle(alice, bob); err == nil {
		t.Error("a bundle of two publishers")
	}
	bundle.Documents["o-alice"] = bundle.Documents["p-alice"]
	b, err = repo.EncodeCanonical(bundle)
	check(t, err)
	if _, err := author.DecodeBundle(b); err == nil {
		t.Error("a role under another's key documents")
	}
}

func FuzzDecodeBundle(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("..", "testdata", "alice.keys"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte(`{"documents":{"a":[],"":[]},"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := author.DecodeBundle(b)
		if err != nil {
			return
		}
		if _, err := repo.ParsePublisher(string(bundle.Publisher())); err != nil {
			t.Error(err)
		}
	})
}
