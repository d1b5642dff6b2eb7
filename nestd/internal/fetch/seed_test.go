package fetch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer/peer"
	"stork/repo"
)

// TestPeers wants what one nest keeps to come to the other without the
// repository, and nothing of it to be writable by the fetcher.
func TestPeers(t *testing.T) {
	t.Parallel()
	networks := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	// An address that no other test has; one must be told the other's.
	address := fmt.Sprintf("127.78.%d.%d:8760", 1+rand.N(250), 1+rand.N(250))
	first := startWith(t, t.TempDir(), Config{SeedBytes: 1 << 20, Peer: peer.Config{Listen: address, Networks: networks}})
	second := startWith(t, t.TempDir(), Config{Peer: peer.Config{Peers: []string{address}, Networks: networks}})
	blob, document := content(50<<10), content(2000)
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = w.Write(blob)
	}))
	defer server.Close()
	for _, f := range []*Fetcher{first, second} {
		got, _, err := get(f, server, repo.ObjectOf(blob))
		if err != nil || !bytes.Equal(got, blob) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		must(t, f.Keep(repo.ObjectOf(blob)))
		must(t, f.KeepDocument(repo.DigestOf(document), document))
		if left, err := os.ReadDir(f.options.Spool); err != nil || len(left) != 0 {
			t.Errorf("in the spool: %v, %v", left, err)
		}
	}
	got, err := second.Get(context.Background(), server.URL, repo.DataPath(repo.DigestOf(document)), 2000)
	if err != nil || !bytes.Equal(got, document) || requests.Load() != 1 {
		t.Errorf("%d bytes, %v, after %d requests to the repository", len(got), err, requests.Load())
	}
	for _, text := range [][]byte{blob, document} {
		info, err := os.Stat(filepath.Join(first.options.Seeds, repo.DigestOf(text).Hex()))
		must(t, err)
		if owner := ownerOf(info); info.Mode() != 0o444 || owner != os.Geteuid() {
			t.Errorf("what is kept has mode %v and owner %d", info.Mode(), owner)
		}
	}
	if kept, err := os.ReadDir(second.options.Spool); err != nil || len(kept) != 0 || second.seeds != nil {
		t.Errorf("the second keeps %v, %v", kept, err)
	}
}

// TestSeeds fills the budget, and opens what an earlier nestd left.
func TestSeeds(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "seeds")
	s, err := openSeeds(dir, 100_000)
	must(t, err)
	add := func(s *seeds, seed byte, size int) repo.Digest {
		text := append(content(size-1), seed)
		must(t, s.add(repo.DigestOf(text), text))
		must(t, s.add(repo.DigestOf(text), text)) // is there
		time.Sleep(2 * time.Millisecond)          // they are told apart by time
		return repo.DigestOf(text)
	}
	var all []repo.Digest
	for i := range 15 {
		all = append(all, add(s, byte(i), 10_000))
	}
	has := func(s *seeds) (first, n int) {
		first = -1
		for i, d := range all {
			if _, err := os.Stat(filepath.Join(dir, d.Hex())); err == nil {
				if n++; first < 0 {
					first = i
				}
			}
		}
		if s.total != int64(n)*10_000 || len(s.files) != n {
			t.Errorf("%d files, counted as %d of %d bytes", n, len(s.files), s.total)
		}
		return first, n
	}
	if first, n := has(s); first != 15-n || n < 7 || n > 10 {
		t.Errorf("%d are kept, from %d on", n, first)
	}
	if s.wants(30_000) || !s.wants(25_000) || (*seeds)(nil).wants(1) {
		t.Error("wants what does not fit, or not what does")
	}
	must(t, s.dir.Close())
	must(t, os.WriteFile(filepath.Join(dir, "stranger"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, repo.Digest{1}.Hex()), 0o700))
	s, err = openSeeds(dir, 50_000) // less than is there
	must(t, err)
	if first, n := has(s); first != 15-n || n > 5 || n < 3 {
		t.Errorf("%d are kept, from %d on", n, first)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(s.files) {
		t.Errorf("in the directory: %v, %v", entries, err)
	}
	must(t, s.dir.Close())
}

// TestKeepWhatWasExchanged puts something else into the spool before it is
// kept, as a fetcher that was taken over does.
func TestKeepWhatWasExchanged(t *testing.T) {
	t.Parallel()
	f := startWith(t, t.TempDir(), Config{SeedBytes: 1 << 20})
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	object := repo.Object{Digest: repo.Digest{1}, Size: 6}
	spooled := filepath.Join(f.options.Spool, object.Digest.Hex())
	for name, put := range map[string]func() error{
		"nothing":      func() error { return nil },
		"symlink":      func() error { return os.Symlink(secret, spooled) },
		"directory":    func() error { return os.Mkdir(spooled, 0o700) },
		"another size": func() error { return os.WriteFile(spooled, []byte("secrets"), 0o600) },
	} {
		must(t, put())
		if err := f.Keep(object); err == nil {
			t.Errorf("%s was kept", name)
		}
		_ = os.RemoveAll(spooled)
		if entries, err := os.ReadDir(f.options.Seeds); name != "directory" && (err != nil || len(entries) != 0) {
			t.Errorf("%s: kept %v, %v", name, entries, err)
		}
		must(t, os.RemoveAll(filepath.Join(f.options.Seeds, object.Digest.Hex())))
	}
	if info, err := os.Stat(secret); err != nil || info.Mode() != 0o600 {
		t.Errorf("the secret: %v, %v", info, err)
	}
}

func startWith(t *testing.T, dir string, c Config) *Fetcher {
	t.Helper()
	needRoot(t)
	f, err := Start(context.Background(), Options{
		Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Spool: filepath.Join(dir, "spool"), SocketDir: filepath.Join(dir, "s"),
		Seeds: filepath.Join(dir, "seeds"), Config: c, Tuning: quick, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

func ownerOf(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
