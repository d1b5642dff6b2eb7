package signing_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

// start is the time at which every world begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a real repository in a directory with a publisher and owner alice.
type world struct {
	t                     testing.TB
	dir                   string
	tree, offline, online string
	mu                    sync.Mutex
	clock                 time.Time
	repository            *author.Repository
	publisher, owner      *author.Identity
	versions              map[repo.Role]int64
	old                   files // an earlier state, for attacks
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// newWorld makes a repository in which alice has published an index and a
// policy.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := emptyWorld(t)
	w.publisher, w.owner = w.identity("p-alice"), w.identity("o-alice")
	w.add(w.publisher, w.owner)
	w.publish(w.publisher, target("alice/index/root", "index 1"))
	w.publish(w.owner, target("alice/policy/default", "policy 1"))
	return w
}

func emptyWorld(t testing.TB) *world {
	t.Helper()
	dir := tempDir(t)
	w := &world{
		t: t, dir: dir, clock: start, versions: map[repo.Role]int64{},
		tree: filepath.Join(dir, "tree"), offline: filepath.Join(dir, "offline"), online: filepath.Join(dir, "online"),
	}
	_, err := author.InitRepository(author.InitOptions{Tree: w.tree, OfflineDir: w.offline, OnlineDir: w.online, Now: w.now})
	check(t, err)
	w.repository, err = author.OpenRepository(w.tree, w.online, durable.Disk{}, w.now)
	check(t, err)
	return w
}

func (w *world) identity(role repo.Role) *author.Identity {
	w.t.Helper()
	id, err := author.CreateIdentity(durable.Disk{}, filepath.Join(w.dir, "keys"), role, w.now())
	check(w.t, err)
	return id
}

func (w *world) add(ids ...*author.Identity) {
	w.t.Helper()
	check(w.t, w.repository.AddIdentity(w.offline, author.NewBundle(ids...)))
}

func target(name, content string) map[string]repo.Object {
	return map[string]repo.Object{name: repo.ObjectOf([]byte(content))}
}

func (w *world) sign(id *author.Identity, version int64, targets map[string]repo.Object) []byte {
	w.t.Helper()
	b, err := id.SignRole(author.RoleSpec{
		Version: version, Expires: w.now().Add(author.RoleLifetime), Repository: w.repository.Root(), Targets: targets,
	})
	check(w.t, err)
	return b
}

func (w *world) publish(id *author.Identity, targets map[string]repo.Object) {
	w.t.Helper()
	w.versions[id.Role()]++
	b := w.sign(id, w.versions[id.Role()], targets)
	check(w.t, w.repository.Publish(context.Background(), id.Role(), b))
}

func (w *world) source() signing.Dir { return signing.Dir(w.tree) }

// client makes a client with trust state of its own.
func (w *world) client() *signing.Client {
	w.t.Helper()
	return w.clientIn(tempDir(w.t), durable.Disk{})
}

func (w *world) clientIn(dir string, disk durable.Disk) *signing.Client {
	w.t.Helper()
	c, err := signing.Open(signing.Options{Dir: dir, Root: w.repository.Root(), Disk: disk, Now: w.now})
	check(w.t, err)
	return c
}

// lookup does what a guest does: refresh, and look up under a pin.
func lookup(c *signing.Client, src signing.Source, pin signing.Pin, name string) (repo.Object, error) {
	s, err := c.Refresh(context.Background(), src)
	if err != nil {
		return repo.Object{}, err
	}
	return s.Lookup(context.Background(), pin, name)
}

func wantLookup(t testing.TB, c *signing.Client, src signing.Source, id *author.Identity, name, content string) {
	t.Helper()
	got, err := lookup(c, src, id.Pin(), name)
	if err != nil {
		t.Fatalf("lookup of %s: %v", name, err)
	}
	if want := repo.ObjectOf([]byte(content)); got != want {
		t.Fatalf("lookup of %s: got %v, want %v", name, got, want)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// files is a Source in memory: a copy of a tree for an attacker to work on.
type files map[string][]byte

func (f files) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return b, nil
}

func (f files) clone() files { return maps.Clone(f) }

// copyTree reads a tree into memory.
func copyTree(t testing.TB, tree string) files {
	t.Helper()
	out := files{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	check(t, err)
	return out
}

// tempDir is t.TempDir in memory where there is such a place: these tests
// inject faults and do not pull plugs, so they need not wait for a disk.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stork-signing-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
