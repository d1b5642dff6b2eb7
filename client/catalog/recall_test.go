package catalog_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/client/catalog"
	"stork/fixtures/world"
	"stork/repo"
	"stork/signing"
)

// bundle is a tree that says whether it is as it was; its digest is that of
// all metadata that is there.
type bundle struct {
	*files
	metadata int  // files that were read
	besides  bool // something else was asked for
	lies     bool // it says that it is the same whatever it is
}

// Fetch implements signing.Source.
func (b *bundle) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if !repo.IsDataPath(path) {
		b.metadata++
	}
	return b.files.Fetch(ctx, path, max)
}

func (b *bundle) digest() repo.Digest {
	h := sha256.New()
	for _, dir := range []string{"metadata", "keys"} {
		_ = filepath.WalkDir(filepath.Join(b.tree, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				text, _ := os.ReadFile(path)
				h.Write(append([]byte(path[len(b.tree):]), text...))
			}
			return err
		})
	}
	return repo.Digest(h.Sum(nil))
}

// Known implements [catalog.Bundle].
func (b *bundle) Known(_ context.Context, d repo.Digest) (bool, error) {
	return b.lies || d == b.digest(), nil
}

// Brought implements [catalog.Bundle].
func (b *bundle) Brought() (repo.Digest, bool) { return b.digest(), !b.besides }

// recalling is a guest whose nest brings bundles.
type recalling struct {
	t     *testing.T
	r     *world.Repository
	all   []*world.Publisher
	roots map[repo.Digest]repo.Object // of all indexes that there ever were
	guest *guest
}

// open returns how many metadata files were read, and what app there is.
func (x *recalling) open(change func(*nest, *bundle)) (read int, versions []string, err error) {
	x.t.Helper()
	n := newNest(x.t, x.r, x.all...)
	maps.Copy(x.roots, n.roots)
	maps.Copy(n.roots, x.roots)
	b := &bundle{}
	n.wrap = func(f *files) catalog.Files { b.files = f; return b }
	if change != nil {
		change(n, b)
	}
	c, err := x.guest.open(n)
	if err != nil {
		return b.metadata, nil, err
	}
	for _, a := range find(x.t, c, "app") {
		if _, err := c.Verify(context.Background(), a); err != nil {
			x.t.Error(err)
		}
		versions = append(versions, a.Entry.Version)
	}
	read = b.metadata
	if s := c.Served(); len(s) != 1 || s[0].Version == 0 || !s[0].Expires.After(x.r.Now()) {
		x.t.Errorf("served %+v", s)
	}
	if refused, err := c.Refusals(context.Background(), "stranger"); err != nil || len(refused) != 1 {
		x.t.Errorf("strangers' packages: %v, %v", refused, err)
	}
	return read, versions, nil
}

func (x *recalling) want(what string, verifies bool, version string, change func(*nest, *bundle)) {
	x.t.Helper()
	read, versions, err := x.open(change)
	if err != nil || (read > 0) != verifies || !slices.Equal(versions, strings.Fields(version)) {
		x.t.Errorf("%s: %v, %d metadata files read, versions %q", what, err, read, versions)
	}
}

// TestRecall: the same files are not verified twice; other files, another
// owner, another clock or a floor that has risen since have everything
// verified, and what verified once admits nothing that verifying would not.
func TestRecall(t *testing.T) {
	t.Parallel()
	r := world.New(t)
	alice, stranger := r.Join("alice"), r.Join("mallory")
	alice.Publish(app("1"))
	odd := app("1")
	odd.Name = "stranger"
	stranger.Publish(odd)
	alice.PublishPolicy(0, alice.Allow("*"))
	x := &recalling{t, r, []*world.Publisher{alice, stranger}, map[repo.Digest]repo.Object{}, newGuest(t, r, alice)}
	x.want("at first", true, "1", func(_ *nest, b *bundle) { b.besides = true })
	x.want("after more was read than came together", true, "1", nil)
	x.want("the same again", false, "1", nil)

	old := filepath.Join(world.TempDir(t), "old")
	if err := os.CopyFS(old, os.DirFS(r.Tree)); err != nil {
		t.Fatal(err)
	}
	alice.Publish(app("2"))
	x.want("a nest that hides the newer", false, "1", func(n *nest, b *bundle) { n.trees[r.Root] = old })
	x.want("the newer", true, "2 1", nil)
	x.want("the newer again", false, "2 1", nil)
	if _, _, err := x.open(func(n *nest, _ *bundle) { n.trees[r.Root] = old }); !errors.Is(err, signing.ErrUntrusted) {
		t.Errorf("the older after the newer: %v", err)
	}
	x.want("after that", false, "2 1", nil)
	x.want("a lie that all is the same", false, "2 1", func(_ *nest, b *bundle) { b.lies = true })

	bob := r.Join("bob")
	mine := x.guest.pins
	x.guest.pins = bob.Pins()
	if _, _, err := x.open(nil); !errors.Is(err, catalog.ErrNoPolicy) {
		t.Errorf("for another owner: %v", err)
	}
	x.guest.pins = mine
	x.want("for the owner again", true, "2 1", nil)
	x.want("once more", false, "2 1", nil)
	r.Advance(24 * 365 * time.Hour)
	if _, _, err := x.open(func(_ *nest, b *bundle) { b.lies = true }); !errors.Is(err, signing.ErrExpired) {
		t.Errorf("a year later: %v", err)
	}
}
