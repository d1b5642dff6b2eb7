package signing_test

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

const index = "alice/index/root"

// attack is a scene: a guest has seen version 2 of alice's index; then the
// attacker serves what mount returns, and the guest must refuse.
type attack struct {
	name  string
	mount func(t *testing.T, w *world) signing.Source
	want  error
}

var attacks = []attack{
	{"arbitrary software: a mirror changes the role", func(t *testing.T, w *world) signing.Source {
		f := copyTree(t, w.tree)
		path := "metadata/2.p-alice.json"
		f[path] = bytes.Replace(f[path], []byte(`"length":7`), []byte(`"length":8`), 1)
		return f
	}, signing.ErrUntrusted},
	{"freeze: a mirror stands still", func(t *testing.T, w *world) signing.Source {
		f := copyTree(t, w.tree)
		w.advance(25 * time.Hour)
		_, err := w.repository.Renew(false)
		check(t, err)
		return f
	}, signing.ErrExpired},
	{"rollback: an old timestamp", func(t *testing.T, w *world) signing.Source {
		f := copyTree(t, w.tree)
		f[repo.TimestampPath] = w.old[repo.TimestampPath]
		return f
	}, signing.ErrUntrusted},
	{"mix and match: an old snapshot under the new name", func(t *testing.T, w *world) signing.Source {
		f := copyTree(t, w.tree)
		f[newest(f, "snapshot")] = w.old[newest(w.old, "snapshot")]
		return f
	}, signing.ErrUntrusted},
	{"mix and match: an old role under the new name", func(t *testing.T, w *world) signing.Source {
		f := copyTree(t, w.tree)
		f["metadata/2.p-alice.json"] = f["metadata/1.p-alice.json"]
		return f
	}, signing.ErrUntrusted},
	{"endless data", func(t *testing.T, w *world) signing.Source { return endless{w.source()} }, signing.ErrUntrusted},
	{"wrong software: the owner's role in the publisher's place", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		th.place("p-alice", 2, th.files["metadata/2.o-alice.json"], delegateTo("p-alice", w.owner, false))
		return th.files
	}, signing.ErrUntrusted},
	{"timestamp key stolen: names an unsigned snapshot", func(t *testing.T, w *world) signing.Source {
		th := steal(w)
		th.only(w.online, "timestamp")
		th.place("p-alice", 3, th.files["metadata/1.p-alice.json"], nil)
		return th.files
	}, signing.ErrUntrusted},
	{"online keys stolen: an old role", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.online)
		th.place("p-alice", 1, th.files["metadata/1.p-alice.json"], nil)
		return th.files
	}, signing.ErrUntrusted},
	{"online keys stolen: a role that alice did not sign", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.online)
		m := mallory(w, "p-alice")
		th.place("p-alice", 3, w.sign(m, 3, target(index, "malware")), delegateTo("p-alice", m, true))
		return th.files
	}, signing.ErrUntrusted},
	{"alice's daily key stolen: no repository key", func(t *testing.T, w *world) signing.Source {
		th := steal(w)
		th.place("p-alice", 3, w.sign(w.publisher, 3, target(index, "malware")), nil)
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: delegates alice's role to itself", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		m := mallory(w, "p-alice")
		th.place("p-alice", 3, w.sign(m, 3, target(index, "malware")), delegateTo("p-alice", m, false))
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: and replaces her key documents", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		m := mallory(w, "p-alice")
		th.files["keys/p-alice/1.json"] = m.Documents()[0]
		th.place("p-alice", 3, w.sign(m, 3, target(index, "malware")), delegateTo("p-alice", m, true))
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: appends to her key documents", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		m := mallory(w, "p-alice")
		check(t, m.Revise(durable.Disk{}, w.now(), author.Revision{}))
		th.files["keys/p-alice/2.json"] = m.Documents()[1]
		th.place("p-alice", 3, w.sign(m, 3, target(index, "malware")), delegateTo("p-alice", m, true))
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: the target in the repository's own role", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		th.forge(func(targets *metadata.TargetsType) {
			file, err := metadata.TargetFile().FromBytes(index, []byte("malware"))
			check(t, err)
			targets.Targets[index] = file
			targets.Delegations.Roles = nil
		}, nil)
		return th.files
	}, fs.ErrNotExist},
	{"every repository key stolen: an old role, after new online keys", func(t *testing.T, w *world) signing.Source {
		// The root drops the floors of the repository's own roles; the
		// guest's own floor for alice stays.
		check(t, w.repository.RotateOnline(w.offline))
		th := steal(w, w.offline, w.online)
		th.place("p-alice", 1, th.files["metadata/1.p-alice.json"], nil)
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: paths of another publisher", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		th.forge(func(targets *metadata.TargetsType) { targets.Delegations.Roles[0].Paths = []string{"*/*/*"} },
			nil)
		th.forge(func(targets *metadata.TargetsType) { targets.Delegations.Roles[1].Paths = []string{"*/*/*"} },
			nil)
		return th.files
	}, signing.ErrUntrusted},
	{"every repository key stolen: one publisher's role as another's", func(t *testing.T, w *world) signing.Source {
		bob := w.identity("p-bob")
		w.add(bob)
		th := steal(w, w.offline, w.online)
		th.place("p-alice", 3, w.sign(bob, 3, target("bob/index/root", "bob's")), delegateTo("p-alice", bob, false))
		return th.files
	}, signing.ErrUntrusted},
	{"replay of a role made for another repository", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		b, err := w.publisher.SignRole(author.RoleSpec{
			Version: 3, Expires: w.now().Add(time.Hour), Repository: repo.DigestOf([]byte("other")), Targets: target(index, "other"),
		})
		check(t, err)
		th.place("p-alice", 3, b, nil)
		return th.files
	}, signing.ErrUntrusted},
	{"another repository in this one's place", func(t *testing.T, w *world) signing.Source {
		return newWorld(t).source()
	}, signing.ErrUntrusted},
	{"a revoked daily key", func(t *testing.T, w *world) signing.Source {
		stolen := w.sign(w.publisher, 3, target(index, "malware"))
		check(t, w.publisher.Revise(durable.Disk{}, w.now(), author.Revision{ReplaceDaily: true}))
		w.add(w.publisher)
		th := steal(w, w.offline, w.online)
		th.place("p-alice", 3, stolen, nil)
		return th.files
	}, signing.ErrUntrusted},
	{"a revoked daily key, its revocation hidden by a mirror", func(t *testing.T, w *world) signing.Source {
		stolen := w.sign(w.publisher, 3, target(index, "malware"))
		check(t, w.publisher.Revise(durable.Disk{}, w.now(), author.Revision{ReplaceDaily: true}))
		w.add(w.publisher)
		th := steal(w, w.online)
		delete(th.files, "keys/p-alice/2.json")
		th.place("p-alice", 3, stolen, nil)
		return th.files
	}, signing.ErrMissing},
	{"a role that expired", func(t *testing.T, w *world) signing.Source {
		th := steal(w, w.offline, w.online)
		b, err := w.publisher.SignRole(author.RoleSpec{
			Version: 3, Expires: w.now().Add(-time.Second), Repository: w.repository.Root(), Targets: target(index, "old"),
		})
		check(t, err)
		th.place("p-alice", 3, b, nil)
		return th.files
	}, signing.ErrExpired},
	{"a key document that expired", func(t *testing.T, w *world) signing.Source {
		w.advance(author.KeyDocumentLifetime - time.Hour)
		check(t, w.repository.RenewOffline(w.offline))
		w.publish(w.publisher, target(index, "index 3"))
		w.advance(2 * time.Hour)
		return w.source()
	}, signing.ErrExpired},
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.old = copyTree(t, w.tree)
			w.publish(w.publisher, target(index, "index 2"))
			w.publish(w.owner, target("alice/policy/default", "policy 2"))
			guest := w.client()
			wantLookup(t, guest, w.source(), w.publisher, index, "index 2")
			source := a.mount(t, w)
			got, err := lookup(guest, source, w.publisher.Pin(), index)
			if err == nil {
				t.Fatalf("the guest accepted %v", got)
			}
			t.Log(err)
			wantError(t, err, a.want)
		})
	}
}

// TestPinnedChecksNeverDependOnTheRepository mounts what a nest may accept
// and a guest must not: the nest is told by the repository alone.
func TestGuestRefusesWhatNestFetches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	th := steal(w, w.offline, w.online)
	m := mallory(w, "p-alice")
	th.files["keys/p-alice/1.json"] = m.Documents()[0]
	th.place("p-alice", 2, w.sign(m, 2, target(index, "malware")), delegateTo("p-alice", m, true))
	s, err := w.client().Refresh(context.Background(), th.files)
	check(t, err)
	_, err = s.LookupDelegated(context.Background(), "p-alice", index)
	check(t, err)
	_, err = s.Lookup(context.Background(), w.publisher.Pin(), index)
	wantError(t, err, signing.ErrUntrusted)
}

// TestRolesSignTheirOwnKindsOnly: a build key must not rewrite policy.
func TestRolesSignTheirOwnKindsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, err := w.client().Refresh(context.Background(), w.source())
	check(t, err)
	for _, c := range []struct {
		id     *author.Identity
		target string
	}{
		{w.publisher, "alice/policy/default"}, {w.owner, index}, {w.publisher, "bob/index/root"},
		{w.publisher, "alice/index"}, {w.publisher, "alice/index/../root"}, {w.publisher, ""},
	} {
		if _, err := c.id.SignRole(author.RoleSpec{Version: 9, Expires: w.now(), Targets: target(c.target, "x")}); err == nil {
			t.Errorf("%s signed %q", c.id.Role(), c.target)
		}
		if c.target == "" {
			continue
		}
		_, err := s.Lookup(context.Background(), c.id.Pin(), c.target)
		wantError(t, err, signing.ErrUntrusted)
	}
}

// TestResetLowersTheFloor: the owner of a pin, and nobody else, can let
// clients go back.
func TestResetLowersTheFloor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(w.publisher, target(index, "index 2"))
	guest := w.client()
	wantLookup(t, guest, w.source(), w.publisher, index, "index 2")
	for _, reset := range []bool{false, true} {
		check(t, w.publisher.Revise(durable.Disk{}, w.now(), author.Revision{Reset: reset}))
		w.add(w.publisher)
		check(t, w.repository.RotateOnline(w.offline))
		th := steal(w, w.offline, w.online)
		th.place("p-alice", 1, th.files["metadata/1.p-alice.json"], nil)
		_, err := lookup(guest, th.files, w.publisher.Pin(), index)
		if reset {
			check(t, err)
		} else {
			wantError(t, err, signing.ErrUntrusted)
		}
	}
}

// TestFastForward: stolen online keys sign absurdly high versions; replacing
// both keys lets clients come back.
func TestFastForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	guest := w.client()
	th := steal(w, w.online)
	th.forge(nil, func(s *metadata.SnapshotType) { s.Version = 1 << 50 })
	wantLookup(t, guest, th.files, w.publisher, index, "index 1")
	_, err := lookup(guest, w.source(), w.publisher.Pin(), index)
	wantError(t, err, signing.ErrUntrusted)
	check(t, w.repository.RotateOnline(w.offline))
	wantLookup(t, guest, w.source(), w.publisher, index, "index 1")
}

// TestThreshold: fewer signatures than the threshold, or one key's twice, are
// not enough.
func TestThreshold(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	keys := filepath.Join(w.dir, "keys")
	id, err := author.CreateIdentityWith(durable.Disk{}, keys, "p-alice", w.now(), author.KeySpec{DailyKeys: 2, DailyThreshold: 2})
	check(t, err)
	w.add(id)
	b := w.sign(id, 1, target(index, "index 1"))
	meta, err := (&metadata.Metadata[metadata.TargetsType]{}).FromBytes(b)
	check(t, err)
	meta.Signatures = meta.Signatures[:1]
	one, err := meta.ToBytes(false)
	check(t, err)
	err = w.repository.Publish(context.Background(), "p-alice", one)
	wantError(t, err, signing.ErrUntrusted)
	meta.Signatures = append(meta.Signatures, meta.Signatures[0])
	twice, err := meta.ToBytes(false)
	check(t, err)
	wantError(t, w.repository.Publish(context.Background(), "p-alice", twice), signing.ErrUntrusted)
	check(t, w.repository.Publish(context.Background(), "p-alice", b))
	wantLookup(t, w.client(), w.source(), id, index, "index 1")
}

// newest returns the path of a role's highest version in f.
func newest(f files, role string) string {
	for v := int64(1); ; v++ {
		if f[repo.MetadataPath(role, v+1)] == nil {
			return repo.MetadataPath(role, v)
		}
	}
}

// only keeps one kind of key in dir.
func (th *thief) only(dir, use string) {
	th.t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, use+"-*.pem"))
	check(th.t, err)
	for _, path := range paths {
		th.take(path)
	}
}

// endless never stops sending.
type endless struct{ signing.Source }

func (e endless) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	b, err := e.Source.Fetch(ctx, path, max)
	if path == repo.TimestampPath {
		b = append(b, bytes.Repeat([]byte(" "), int(max))...)
	}
	return b, err
}
