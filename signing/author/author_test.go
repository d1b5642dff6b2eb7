package author_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

func TestPublishChecks(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.open(t, durable.Disk{})
	ctx := context.Background()
	first, err := r.Published("p-alice")
	check(t, err)
	check(t, r.Publish(ctx, "p-alice", first)) // the answer was lost
	for _, version := range []int64{1, 3} {
		_, err := r.VerifyRole("p-alice", p.sign(t, "p-alice", version, "other"))
		var mismatch *author.VersionError
		if !errors.As(err, &mismatch) || mismatch.Published != 1 || mismatch.Got != version {
			t.Errorf("version %d after 1: got error %v", version, err)
		}
	}
	refused := map[string]struct {
		role repo.Role
		b    []byte
		want error
	}{
		"not delegated":      {"p-bob", p.sign(t, "p-bob", 1, "x"), fs.ErrNotExist},
		"another role":       {"p-alice", p.sign(t, "o-alice", 2, "x"), signing.ErrUntrusted},
		"another signer":     {"p-alice", p.sign(t, "p-bob", 2, "x"), signing.ErrUntrusted},
		"no role":            {"p-alice", []byte("{}"), signing.ErrUntrusted},
		"another repository": {"p-alice", signFor(t, p, repo.DigestOf(nil), start.Add(time.Hour)), signing.ErrUntrusted},
		"expired":            {"p-alice", signFor(t, p, r.Root(), start.Add(-time.Hour)), signing.ErrExpired},
	}
	for name, c := range refused {
		if err := r.Publish(ctx, c.role, c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, err, c.want)
		}
	}
	parsed, err := r.VerifyRole("p-alice", p.sign(t, "p-alice", 2, "index 2"))
	check(t, err)
	if parsed.Version != 2 || parsed.Targets["alice/index/root"] != repo.ObjectOf([]byte("index 2")) {
		t.Errorf("got %+v", parsed)
	}
	_, err = r.Published("o-alice")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("published nothing: got error %v", err)
	}
}

func signFor(t *testing.T, p place, repository repo.Digest, expires time.Time) []byte {
	t.Helper()
	b, err := p.identity(t, "p-alice").SignRole(author.RoleSpec{Version: 2, Expires: expires, Repository: repository})
	check(t, err)
	return b
}

// TestServerNeedsNoOfflineKey: publishing and renewing work after the
// offline keys have left the machine; delegating does not.
func TestServerNeedsNoOfflineKey(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	check(t, os.RemoveAll(p.offline()))
	r := p.open(t, durable.Disk{})
	check(t, r.Publish(context.Background(), "p-alice", p.sign(t, "p-alice", 2, "index 2")))
	_, err := r.Renew(true)
	check(t, err)
	check(t, os.Mkdir(p.offline(), 0o700))
	for name, do := range map[string]func() error{
		"add":    func() error { return r.AddIdentity(p.offline(), p.bundle(t, "p-bob")) },
		"remove": func() error { return r.RemoveIdentity(p.offline(), "alice") },
		"renew":  func() error { return r.RenewOffline(p.offline()) },
		"rotate": func() error { return r.RotateOnline(p.offline()) },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "keys are at hand") {
			t.Errorf("%s without offline keys: got error %v", name, err)
		}
	}
}

func TestPrivateKeysArePrivate(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	n := 0
	for _, dir := range []string{p.offline(), p.online(), filepath.Join(p.keys(), "p-alice")} {
		paths, err := filepath.Glob(filepath.Join(dir, "*.pem"))
		check(t, err)
		for _, path := range paths {
			info, err := os.Stat(path)
			check(t, err)
			if n++; info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		}
	}
	if want := 2 + 1 + 2 + 2; n != want {
		t.Errorf("found %d keys, want %d", n, want)
	}
	err := filepath.WalkDir(p.tree(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".pem") {
			t.Errorf("private key %s in the public tree", path)
		}
		return err
	})
	check(t, err)
}

func TestNameBelongsToItsFirstKeys(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.open(t, durable.Disk{})
	other, err := author.CreateIdentity(durable.Disk{}, tempDir(t), "p-alice", start)
	check(t, err)
	if err := r.AddIdentity(p.offline(), author.NewBundle(other)); err == nil {
		t.Error("alice was replaced")
	}
	check(t, r.RemoveIdentity(p.offline(), "alice"))
	if err := r.AddIdentity(p.offline(), author.NewBundle(other)); err == nil {
		t.Error("alice was replaced after her removal")
	}
	check(t, r.AddIdentity(p.offline(), p.bundle(t, "p-alice", "o-alice")))
	check(t, r.Publish(context.Background(), "p-alice", p.sign(t, "p-alice", 2, "index 2")))
	d, err := r.Delegations()
	check(t, err)
	if len(d) != 2 || d[0].Role != "o-alice" || d[1].Pin != p.identity(t, "p-alice").Pin().Digest {
		t.Errorf("got delegations %+v", d)
	}
}

// TestRenew follows a repository that nobody publishes to over ten days.
func TestRenew(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	now := start
	r, err := author.OpenRepository(p.tree(), p.online(), durable.Disk{}, func() time.Time { return now })
	check(t, err)
	c, err := signing.Open(signing.Options{Dir: tempDir(t), Root: r.Root(), Now: func() time.Time { return now }})
	check(t, err)
	renewals := 0
	for ; now.Before(start.Add(10 * 24 * time.Hour)); now = now.Add(30 * time.Minute) {
		renewed, err := r.Renew(false)
		check(t, err)
		if renewed {
			renewals++
		}
		s, err := c.Refresh(context.Background(), signing.Dir(p.tree()))
		check(t, err)
		if left := s.Expires().Sub(now); left < 22*time.Hour {
			t.Fatalf("at %v only %v are left", now, left)
		}
	}
	if renewals < 235 || renewals > 245 {
		t.Errorf("renewed %d times in ten days, want once an hour", renewals)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	now := start
	r, err := author.OpenRepository(p.tree(), p.online(), durable.Disk{}, func() time.Time { return now })
	check(t, err)
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""},
		{13 * time.Hour, "timestamp"},
		{6 * 24 * time.Hour, "snapshot timestamp"},
		{80 * 24 * time.Hour, "snapshot timestamp p-alice"},
		{360 * 24 * time.Hour, "root targets snapshot timestamp key document of o-alice key document of p-alice p-alice"},
	} {
		now = start.Add(c.after)
		warnings, err := r.Warnings()
		check(t, err)
		var got []string
		for _, w := range warnings {
			got = append(got, w.What)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("after %v: got %q, want %q", c.after, got, c.want)
		}
	}
}

// TestReadersDuringWrites: while one writer publishes, readers see whole
// states and never go back.
func TestReadersDuringWrites(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	pin := p.identity(t, "p-alice").Pin()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		c := p.guest(t, tempDir(t))
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := c.Refresh(context.Background(), signing.Dir(p.tree()))
				if err == nil {
					_, err = s.Lookup(context.Background(), pin, "alice/index/root")
				}
				if err != nil {
					t.Errorf("a reader failed: %v", err)
					return
				}
			}
		})
	}
	r := p.open(t, durable.Disk{})
	for version := int64(2); version < 20; version++ {
		check(t, r.Publish(context.Background(), "p-alice", p.sign(t, "p-alice", version, "index")))
		if version%5 == 0 {
			check(t, r.RotateOnline(p.offline()))
		}
	}
	close(stop)
	readers.Wait()
}
