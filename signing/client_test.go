package signing_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client()
	wantLookup(t, c, w.source(), w.publisher, "alice/index/root", "index 1")
	wantLookup(t, c, w.source(), w.owner, "alice/policy/default", "policy 1")
	w.publish(w.publisher, target("alice/index/root", "index 2"))
	wantLookup(t, c, w.source(), w.publisher, "alice/index/root", "index 2")

	ctx := context.Background()
	s, err := c.Refresh(ctx, w.source())
	check(t, err)
	got, err := s.LookupDelegated(ctx, "p-alice", "alice/index/root")
	check(t, err)
	if want := repo.ObjectOf([]byte("index 2")); got != want {
		t.Errorf("LookupDelegated: got %v, want %v", got, want)
	}
	if want := []repo.Role{"o-alice", "p-alice"}; !slices.Equal(s.Roles(), want) {
		t.Errorf("Roles: got %v, want %v", s.Roles(), want)
	}
	if want := start.Add(author.TimestampLifetime); !s.Expires().Equal(want) {
		t.Errorf("Expires: got %v, want %v", s.Expires(), want)
	}
	_, err = s.Lookup(ctx, w.owner.Pin(), "alice/manifest/fleet")
	wantError(t, err, fs.ErrNotExist)
	_, err = s.LookupDelegated(ctx, "p-bob", "bob/index/root")
	wantError(t, err, fs.ErrNotExist)
}

func TestFindRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, err := w.client().Refresh(context.Background(), w.source())
	check(t, err)
	got, err := s.FindRole(context.Background(), w.owner.Pin().Digest)
	check(t, err)
	if got != w.owner.Pin() {
		t.Errorf("got %v, want %v", got, w.owner.Pin())
	}
	_, err = s.FindRole(context.Background(), repo.DigestOf([]byte("nobody")))
	wantError(t, err, fs.ErrNotExist)
}

// TestFilesFillAMirror proves that a mirror of Files serves a new client
// which knows nothing but the pins.
func TestFilesFillAMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check(t, w.repository.RenewOffline(w.offline))
	check(t, w.publisher.Revise(durable.Disk{}, w.now(), author.Revision{ReplaceDaily: true, KeepDaily: true}))
	w.add(w.publisher)
	nest := w.client()
	ctx := context.Background()
	_, err := nest.Refresh(ctx, w.source()) // the second one starts from the newest root
	check(t, err)
	s, err := nest.Refresh(ctx, w.source())
	check(t, err)
	for _, role := range s.Roles() {
		name := signing.IndexTarget(role.Publisher())
		if role.IsOwner() {
			name = signing.PolicyTarget(role.Publisher())
		}
		_, err := s.LookupDelegated(ctx, role, name)
		check(t, err)
	}
	tree, mirror := copyTree(t, w.tree), files{}
	for _, path := range s.Files() {
		mirror[path] = tree[path]
	}
	if last := s.Files()[len(s.Files())-1]; last != repo.TimestampPath {
		t.Errorf("the last file is %s, want the timestamp", last)
	}
	wantLookup(t, w.client(), mirror, w.publisher, "alice/index/root", "index 1")
	wantLookup(t, w.client(), mirror, w.owner, "alice/policy/default", "policy 1")
}

// TestFilesOf proves that the files of one role verify it for a client which
// knows nothing but the pins, and that none is too many.
func TestFilesOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check(t, w.repository.RenewOffline(w.offline))
	check(t, w.publisher.Revise(durable.Disk{}, w.now(), author.Revision{ReplaceDaily: true, KeepDaily: true}))
	w.add(w.publisher)
	s, err := w.client().Refresh(context.Background(), w.source())
	check(t, err)
	tree, mirror := copyTree(t, w.tree), files{}
	paths := s.FilesOf(w.publisher.Role())
	for _, path := range paths {
		mirror[path] = tree[path]
	}
	wantLookup(t, w.client(), mirror, w.publisher, "alice/index/root", "index 1")
	for _, path := range paths {
		if path == repo.MetadataPath("root", 2) {
			continue // it has the keys of the first
		}
		less := mirror.clone()
		delete(less, path)
		if _, err := lookup(w.client(), less, w.publisher.Pin(), "alice/index/root"); err == nil {
			t.Errorf("without %s it verifies too", path)
		}
	}
	if _, ok := tree[s.NextRoot()]; ok || s.FilesOf()[0] != repo.MetadataPath("root", 1) {
		t.Errorf("next root %s, first file %s", s.NextRoot(), s.FilesOf()[0])
	}
	if got, want := len(s.FilesOf("p-nobody")), len(s.FilesOf()); got != want {
		t.Errorf("%d files of a role that is not delegated, %d of none", got, want)
	}
}

// TestTargetNames: what may be the last part of a target's name.
func TestTargetNames(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"root": true, "a": true, "0-9": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "a-": false, "A": false, "a_b": false, "ä": false, "a/b": false, strings.Repeat("a", 65): false,
	} {
		if err := signing.CheckTarget("p-alice", "alice/index/"+name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.client().Refresh(context.Background(), failing{errUnreachable})
	wantError(t, err, errUnreachable)
	if errors.Is(err, signing.ErrUntrusted) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unreachable repository looks like %v", err)
	}
	_, err = w.client().Refresh(context.Background(), files{})
	wantError(t, err, signing.ErrMissing)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing file looks like a target that is not published")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = w.client().Refresh(ctx, copyTree(t, w.tree))
	wantError(t, err, context.Canceled)
}

var errUnreachable = errors.New("unreachable")

type failing struct{ err error }

func (f failing) Fetch(context.Context, string, int64) ([]byte, error) { return nil, f.err }

func TestOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, mirror := w.client(), copyTree(t, w.tree)
	w.advance(23 * time.Hour)
	wantLookup(t, c, mirror, w.publisher, "alice/index/root", "index 1")
	w.advance(2 * time.Hour)
	_, err := c.Refresh(context.Background(), mirror)
	wantError(t, err, signing.ErrExpired)
	s, err := c.Offline(context.Background(), mirror, 2*time.Hour)
	check(t, err)
	_, err = s.Lookup(context.Background(), w.publisher.Pin(), "alice/index/root")
	check(t, err)
	w.advance(2 * time.Hour)
	_, err = c.Offline(context.Background(), mirror, 2*time.Hour)
	wantError(t, err, signing.ErrExpired)
}

// TestClockSetBack: what has expired once stays so.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, mirror := w.client(), copyTree(t, w.tree)
	wantLookup(t, c, mirror, w.publisher, "alice/index/root", "index 1")
	w.advance(48 * time.Hour)
	_, err := c.Refresh(context.Background(), mirror)
	wantError(t, err, signing.ErrExpired)
	w.advance(-48 * time.Hour)
	_, err = c.Refresh(context.Background(), mirror)
	wantError(t, err, signing.ErrExpired)
	check(t, c.ResetClock())
	wantLookup(t, c, mirror, w.publisher, "alice/index/root", "index 1")
}

func TestDamagedLocalFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check(t, w.repository.RenewOffline(w.offline))
	dir := tempDir(t)
	wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 1")
	for _, damage := range [][]byte{{}, []byte("{"), []byte(`{"signed":null}`)} {
		check(t, os.WriteFile(filepath.Join(dir, "root.json"), damage, 0o644))
		wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 1")
	}
	// A damaged root must not bring back an older one.
	check(t, os.WriteFile(filepath.Join(dir, "root.json"), nil, 0o644))
	old := copyTree(t, w.tree)
	delete(old, "metadata/2.root.json")
	_, err := w.clientIn(dir, durable.Disk{}).Refresh(context.Background(), old)
	wantError(t, err, signing.ErrUntrusted)
	// Damaged floors are never a fresh start.
	check(t, os.WriteFile(filepath.Join(dir, "trust.json"), []byte("{"), 0o644))
	if _, err := signing.Open(signing.Options{Dir: dir, Root: w.repository.Root()}); err == nil {
		t.Error("damaged trust state was accepted")
	}
}

func TestStateOfAnotherRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := tempDir(t)
	wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 1")
	if _, err := signing.Open(signing.Options{Dir: dir, Root: repo.DigestOf(nil)}); err == nil {
		t.Error("the trust state of another repository was accepted")
	}
}

// TestNothingNewWritesNothing: a refresh that learns nothing is no work for
// the disk.
func TestNothingNewWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	steps := 0
	c := w.clientIn(tempDir(t), durable.Disk{Fault: func(durable.Step, string) (error, error) { steps++; return nil, nil }})
	wantLookup(t, c, w.source(), w.publisher, "alice/index/root", "index 1")
	if steps == 0 {
		t.Fatal("the first refresh wrote nothing")
	}
	steps = 0
	wantLookup(t, c, w.source(), w.publisher, "alice/index/root", "index 1")
	if steps != 0 {
		t.Errorf("%d steps on disk, want none", steps)
	}
}

// BenchmarkRefreshAndLookup is what a guest pays before every install: a
// refresh that brings nothing new, and a policy and an index looked up.
func BenchmarkRefreshAndLookup(b *testing.B) {
	w := newWorld(b)
	c := w.client()
	wantLookup(b, c, w.source(), w.publisher, "alice/index/root", "index 1")
	wantLookup(b, c, w.source(), w.owner, "alice/policy/default", "policy 1")
	ctx := context.Background()
	for b.Loop() {
		s, err := c.Refresh(ctx, w.source())
		check(b, err)
		_, err = s.Lookup(ctx, w.owner.Pin(), "alice/policy/default")
		check(b, err)
		_, err = s.Lookup(ctx, w.publisher.Pin(), "alice/index/root")
		check(b, err)
	}
}

// TestClientFaults: a client whose disk fails refuses, and afterwards is
// either as before or further, never behind.
func TestClientFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := tempDir(t)
	wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 1")
	old := copyTree(t, w.tree)
	check(t, w.repository.RenewOffline(w.offline))
	w.publish(w.publisher, target("alice/index/root", "index 2"))
	for _, tt := range []struct{ after, deferred bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		for k, done := 1, false; !done; k++ {
			state := filepath.Join(tempDir(t), "state")
			check(t, os.CopyFS(state, os.DirFS(dir)))
			n := 0
			disk := durable.Disk{Fault: func(durable.Step, string) (error, error) {
				if n++; n != k {
					return nil, nil
				}
				if tt.after {
					return nil, errUnreachable
				}
				return errUnreachable, nil
			}}
			c, err := signing.Open(signing.Options{Dir: state, Root: w.repository.Root(), Disk: disk, Now: w.now, Deferred: tt.deferred})
			check(t, err)
			_, err = lookup(c, w.source(), w.publisher.Pin(), "alice/index/root")
			err = errors.Join(err, c.Keep())
			if done = n < k; done {
				check(t, err)
				_, err := lookup(w.clientIn(state, durable.Disk{}), old, w.publisher.Pin(), "alice/index/root")
				wantError(t, err, signing.ErrUntrusted)
				break
			}
			wantError(t, err, errUnreachable)
			wantLookup(t, w.clientIn(state, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 2")
		}
	}
}

// TestTwoProcesses: two clients of one trust state never lower what the
// other has recorded.
// TestDeferred: with Deferred, everything is recorded by Keep in one write, is
// in force in the same run before, and not after a crash without Keep.
func TestDeferred(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	dir, steps := tempDir(t), map[durable.Step]int{}
	deferred := func() *signing.Client {
		c, err := signing.Open(signing.Options{Dir: dir, Root: w.repository.Root(), Now: w.now, Deferred: true,
			Disk: durable.Disk{Fault: func(s durable.Step, _ string) (error, error) { steps[s]++; return nil, nil }}})
		check(t, err)
		return c
	}
	old := copyTree(t, w.tree)
	w.publish(w.publisher, target("alice/index/root", "index 2"))
	wantLookup(t, deferred(), w.source(), w.publisher, "alice/index/root", "index 2")
	wantLookup(t, deferred(), old, w.publisher, "alice/index/root", "index 1") // as if the first run had crashed
	clear(steps)
	c := deferred()
	wantLookup(t, c, w.source(), w.publisher, "alice/index/root", "index 2")
	wantLookup(t, c, w.source(), w.owner, "alice/policy/default", "policy 1")
	if steps[durable.StepSync] != 0 {
		t.Errorf("before Keep: %v", steps)
	}
	check(t, errors.Join(c.Keep(), c.Keep()))
	if steps[durable.StepSync] != 1 || steps[durable.StepSyncDir] != 1 {
		t.Errorf("after Keep: %v, want one file durable", steps)
	}
	_, err := lookup(deferred(), old, w.publisher.Pin(), "alice/index/root")
	wantError(t, err, signing.ErrUntrusted)

	// What another process has seen meanwhile counts.
	late := deferred()
	s, err := late.Refresh(ctx, copyTree(t, w.tree))
	check(t, err)
	w.publish(w.publisher, target("alice/index/root", "index 3"))
	wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 3")
	if _, err = s.Lookup(ctx, w.publisher.Pin(), "alice/index/root"); err == nil {
		err = late.Keep()
	}
	wantError(t, err, signing.ErrUntrusted)
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := tempDir(t)
	slow, err := w.clientIn(dir, durable.Disk{}).Refresh(context.Background(), copyTree(t, w.tree))
	check(t, err)
	old := copyTree(t, w.tree)
	w.publish(w.publisher, target("alice/index/root", "index 2"))
	wantLookup(t, w.clientIn(dir, durable.Disk{}), w.source(), w.publisher, "alice/index/root", "index 2")
	_, err = slow.Lookup(context.Background(), w.publisher.Pin(), "alice/index/root")
	wantError(t, err, signing.ErrUntrusted)
	_, err = w.clientIn(dir, durable.Disk{}).Refresh(context.Background(), old)
	wantError(t, err, signing.ErrUntrusted)
}
