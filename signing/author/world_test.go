package author_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func startClock() time.Time { return start }

// place is a directory with a repository and identities, made once and
// copied for each run of a matrix.
type place string

func (p place) tree() string    { return filepath.Join(string(p), "tree") }
func (p place) offline() string { return filepath.Join(string(p), "offline") }
func (p place) online() string  { return filepath.Join(string(p), "online") }
func (p place) keys() string    { return filepath.Join(string(p), "keys") }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place(tempDir(t))
	_, err := author.InitRepository(author.InitOptions{
		Tree: p.tree(), OfflineDir: p.offline(), OnlineDir: p.online(), Now: startClock, RootKeys: 2, RootThreshold: 2,
	})
	check(t, err)
	for _, role := range []repo.Role{"p-alice", "o-alice", "p-bob", "o-bob"} {
		_, err := author.CreateIdentity(durable.Disk{}, p.keys(), role, start)
		check(t, err)
	}
	r := p.open(t, durable.Disk{})
	check(t, r.AddIdentity(p.offline(), p.bundle(t, "p-alice", "o-alice")))
	check(t, r.Publish(context.Background(), "p-alice", p.sign(t, "p-alice", 1, "index 1")))
	return p
}

func (p place) copy(t *testing.T) place {
	t.Helper()
	to := place(tempDir(t))
	check(t, os.CopyFS(string(to), os.DirFS(string(p))))
	return to
}

func (p place) open(t *testing.T, disk durable.Disk) *author.Repository {
	t.Helper()
	r, err := author.OpenRepository(p.tree(), p.online(), disk, startClock)
	check(t, err)
	return r
}

func (p place) identity(t *testing.T, role repo.Role) *author.Identity {
	t.Helper()
	id, err := author.OpenIdentity(p.keys(), role)
	check(t, err)
	return id
}

func (p place) bundle(t *testing.T, roles ...repo.Role) author.Bundle {
	t.Helper()
	ids := make([]*author.Identity, len(roles))
	for i, role := range roles {
		ids[i] = p.identity(t, role)
	}
	return author.NewBundle(ids...)
}

func (p place) sign(t *testing.T, role repo.Role, version int64, content string) []byte {
	t.Helper()
	name := signing.IndexTarget(role.Publisher())
	if role.IsOwner() {
		name = signing.PolicyTarget(role.Publisher())
	}
	b, err := p.identity(t, role).SignRole(author.RoleSpec{
		Version: version, Expires: start.Add(author.RoleLifetime), Repository: p.open(t, durable.Disk{}).Root(),
		Targets: map[string]repo.Object{name: repo.ObjectOf([]byte(content))},
	})
	check(t, err)
	return b
}

// guest is a client with trust state of its own.
func (p place) guest(t *testing.T, dir string) *signing.Client {
	t.Helper()
	c, err := signing.Open(signing.Options{Dir: dir, Root: p.open(t, durable.Disk{}).Root(), Now: startClock})
	check(t, err)
	return c
}

var errFault = errors.New("injected fault")

// failAt makes a disk whose k-th step fails, either not done or done with the
// answer lost, and reports whether that step was reached.
func failAt(k int, after bool) (durable.Disk, *bool) {
	n, hit := 0, new(bool)
	return durable.Disk{Fault: func(durable.Step, string) (error, error) {
		n++
		if n != k {
			return nil, nil
		}
		*hit = true
		if after {
			return nil, errFault
		}
		return errFault, nil
	}}, hit
}

// matrix runs act with every step failing in turn, in both flavours.
func matrix(t *testing.T, run func(t *testing.T, disk durable.Disk) (failed error)) {
	t.Helper()
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			disk, hit := failAt(k, after)
			err := run(t, disk)
			if !*hit {
				check(t, err)
				if k == 1 {
					t.Fatal("nothing was written")
				}
				break
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("step %d, after %v: got error %v, want the fault", k, after, err)
			}
		}
	}
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
