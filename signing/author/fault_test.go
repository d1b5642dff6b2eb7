package author_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

// operation changes a repository. It must be possible to make it again.
type operation struct {
	name string
	do   func(t *testing.T, p place, r *author.Repository) error
	// index of p-alice, and whether bob is delegated, once it is done
	index string
	bob   bool
}

var operations = []operation{
	{"publish", func(t *testing.T, p place, r *author.Repository) error {
		return r.Publish(context.Background(), "p-alice", p.sign(t, "p-alice", 2, "index 2"))
	}, "index 2", false},
	{"add", func(t *testing.T, p place, r *author.Repository) error {
		return r.AddIdentity(p.offline(), p.bundle(t, "p-bob", "o-bob"))
	}, "index 1", true},
	{"renew", func(t *testing.T, p place, r *author.Repository) error {
		_, err := r.Renew(true)
		return err
	}, "index 1", false},
	{"renew offline", func(t *testing.T, p place, r *author.Repository) error {
		return r.RenewOffline(p.offline())
	}, "index 1", false},
	{"rotate online", func(t *testing.T, p place, r *author.Repository) error {
		return r.RotateOnline(p.offline())
	}, "index 1", false},
	{"remove", func(t *testing.T, p place, r *author.Repository) error {
		err := r.RemoveIdentity(p.offline(), "alice")
		if errors.Is(err, fs.ErrNotExist) { // done before the answer was lost
			return nil
		}
		return err
	}, "", false},
}

// view is what a reader sees.
type view struct {
	index string // digest of alice's index, "" for none
	bob   bool
}

func look(t *testing.T, p place, c *signing.Client) view {
	t.Helper()
	s, err := c.Refresh(context.Background(), signing.Dir(p.tree()))
	if err != nil {
		t.Fatalf("a reader can not refresh: %v", err)
	}
	var v view
	object, err := s.Lookup(context.Background(), p.identity(t, "p-alice").Pin(), "alice/index/root")
	switch {
	case err == nil:
		v.index = object.Digest.String()
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatalf("a reader can not look up: %v", err)
	}
	_, err = s.FindRole(context.Background(), p.identity(t, "o-bob").Pin().Digest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a reader can not find bob: %v", err)
	}
	v.bob = err == nil
	return v
}

// TestRepositoryFaults: whichever step fails, readers new and old see the
// state before or the state after, and making the change again completes it.
func TestRepositoryFaults(t *testing.T) {
	t.Parallel()
	template := newPlace(t)
	old := view{index: repo.DigestOf([]byte("index 1")).String()}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			done := view{bob: op.bob}
			if op.index != "" {
				done.index = repo.DigestOf([]byte(op.index)).String()
			}
			matrix(t, func(t *testing.T, disk durable.Disk) error {
				p, state := template.copy(t), tempDir(t)
				if got := look(t, p, p.guest(t, state)); got != old {
					t.Fatalf("before: got %v, want %v", got, old)
				}
				failed := op.do(t, p, p.open(t, disk))
				for _, c := range []*signing.Client{p.guest(t, state), p.guest(t, tempDir(t))} {
					if got := look(t, p, c); got != old && got != done {
						t.Fatalf("after the fault: got %v, want %v or %v", got, old, done)
					}
				}
				if failed != nil {
					check(t, op.do(t, p, p.open(t, durable.Disk{})))
				}
				for _, c := range []*signing.Client{p.guest(t, state), p.guest(t, tempDir(t))} {
					if got := look(t, p, c); got != done {
						t.Fatalf("made again: got %v, want %v", got, done)
					}
				}
				return failed
			})
		})
	}
}

func TestInitFaults(t *testing.T) {
	t.Parallel()
	matrix(t, func(t *testing.T, disk durable.Disk) error {
		p := place(tempDir(t))
		options := author.InitOptions{
			Tree: p.tree(), OfflineDir: p.offline(), OnlineDir: p.online(), Now: startClock, Disk: disk,
			RootKeys: 1, RootThreshold: 1,
		}
		_, failed := author.InitRepository(options)
		if failed != nil {
			options.Disk = durable.Disk{}
			if _, err := author.InitRepository(options); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		_, err := p.guest(t, tempDir(t)).Refresh(context.Background(), signing.Dir(p.tree()))
		check(t, err)
		return failed
	})
}

// TestIdentityFaults: an identity is there whole or not at all, and its next
// key document likewise.
func TestIdentityFaults(t *testing.T) {
	t.Parallel()
	matrix(t, func(t *testing.T, disk durable.Disk) error {
		dir := tempDir(t)
		_, failed := author.CreateIdentity(disk, dir, "p-alice", start)
		_, err := author.OpenIdentity(dir, "p-alice")
		if errors.Is(err, fs.ErrNotExist) {
			_, err = author.CreateIdentity(durable.Disk{}, dir, "p-alice", start)
		}
		check(t, err)
		return failed
	})
	template := tempDir(t)
	_, err := author.CreateIdentity(durable.Disk{}, template, "p-alice", start)
	check(t, err)
	matrix(t, func(t *testing.T, disk durable.Disk) error {
		dir := string(place(template).copy(t))
		id, err := author.OpenIdentity(dir, "p-alice")
		check(t, err)
		failed := id.Revise(disk, start, author.Revision{ReplaceDaily: true, ReplaceMaster: true})
		again, err := author.OpenIdentity(dir, "p-alice")
		check(t, err)
		if v := again.Newest().Version; v != 1 && v != 2 {
			t.Fatalf("got key document %d, want 1 or 2", v)
		}
		_, err = again.SignRole(author.RoleSpec{Version: 1, Expires: start, Repository: repo.DigestOf(nil)})
		check(t, err)
		check(t, again.Revise(durable.Disk{}, start, author.Revision{}))
		return failed
	})
}
