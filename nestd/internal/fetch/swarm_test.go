package fetch

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer/swarm"
	"stork/repo"
)

// swarmHost is a repository with a tracker that believes everybody.
type swarmHost struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	peers map[netip.AddrPort]string // what each said last: what is left
	blobs int                       // requests for blobs
}

func newSwarmHost(t *testing.T, blob []byte) *swarmHost {
	t.Helper()
	h := &swarmHost{peers: map[netip.AddrPort]string{}, files: map[string][]byte{"/" + repo.BlobPath(repo.DigestOf(blob)): blob}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// ServeHTTP implements [http.Handler].
func (h *swarmHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/announce/token/") {
		h.announce(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/blobs/") {
		h.blobs++
	}
	text, ok := h.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

func (h *swarmHost) announce(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	port, portErr := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || portErr != nil {
		http.Error(w, "bad announce", http.StatusBadRequest)
		return
	}
	at := netip.AddrPortFrom(from.Addr(), uint16(port))
	h.peers[at] = r.URL.Query().Get("left")
	if r.URL.Query().Get("event") == "stopped" {
		delete(h.peers, at)
	}
	var list []byte
	for p := range h.peers {
		if p != at {
			b := p.Addr().As4()
			list = append(append(list, b[:]...), byte(p.Port()>>8), byte(p.Port()))
		}
	}
	fmt.Fprintf(w, "d8:intervali60e5:peers%d:%se", len(list), list)
}

// seeds returns how many have everything.
func (h *swarmHost) seeds() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, left := range h.peers {
		if left == "0" {
			n++
		}
	}
	return n
}

// swarmNest starts a fetcher that takes part in swarms.
func swarmNest(t *testing.T, dir, at string, host *swarmHost) *Fetcher {
	t.Helper()
	return swarmNestKeeping(t, dir, at, host, 64<<20)
}

// swarmNestKeeping keeps that many bytes for others.
func swarmNestKeeping(t *testing.T, dir, at string, host *swarmHost, bytes int64) *Fetcher {
	t.Helper()
	needRoot(t)
	f, err := Start(t.Context(), Options{
		Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Tuning: quick, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		Spool: filepath.Join(dir, "spool"), SocketDir: filepath.Join(dir, "s"), Seeds: filepath.Join(dir, "seeds"),
		Trackers: func() []string { return []string{host.URL + "/announce/token"} },
		Config:   Config{SeedBytes: bytes, Swarm: swarm.Config{Listen: at + ":0"}},
	})
	must(t, err)
	return f
}

// TestSwarm has a nest fetch from the repository, and another one from that
// nest when the repository has no blob any more: also after the first one's
// child was killed, and after its daemon was restarted.
func TestSwarm(t *testing.T) {
	t.Parallel()
	blob := content(2 << 20)
	object := repo.ObjectOf(blob)
	hasher := repo.NewPieceHasher(object.Size)
	_, _ = hasher.Write(blob) // never fails
	info := hasher.Info(object.Digest).Encode()
	infoObject := repo.ObjectOf(info)
	host := newSwarmHost(t, blob)
	host.files["/"+repo.DataPath(infoObject.Digest)] = info
	fetch := func(f *Fetcher) Result {
		t.Helper()
		file, result, err := f.Blob(t.Context(), Request{BaseURL: host.URL, Path: repo.BlobPath(object.Digest), Object: object, Info: &infoObject})
		must(t, err)
		defer file.Close()
		if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, blob) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		t.Log(result.Describe())
		return result
	}
	dir := t.TempDir()
	first := swarmNest(t, dir, "127.78.0.1", host)
	fetch(first)
	must(t, first.Keep(object))
	waitFor(t, "the first nest seeds", func() bool { return host.seeds() == 1 })
	host.mu.Lock()
	delete(host.files, "/"+repo.BlobPath(object.Digest))
	host.mu.Unlock()
	other := func(n int) {
		t.Helper()
		f := swarmNest(t, t.TempDir(), fmt.Sprintf("127.78.1.%d", n), host)
		for _, entry := range fetch(f).Sources {
			if entry.Method != "bittorrent" {
				t.Errorf("%+v", entry)
			}
		}
		must(t, f.Discard(object))
		must(t, f.Close())
	}
	other(1)
	must(t, unix.Kill(first.PID(), unix.SIGKILL))
	host.forget()
	waitFor(t, "the next child seeds", func() bool { return host.seeds() == 1 })
	other(2)
	must(t, first.Close())
	host.forget()
	first = swarmNest(t, dir, "127.78.0.2", host)
	waitFor(t, "the next daemon's child seeds", func() bool { return host.seeds() == 1 })
	other(3)
	must(t, first.Close())
	left, err := filepath.Glob(filepath.Join(dir, "spool", "*[0-9a-f]")) // but marks of what was being sent
	if err != nil || len(left) != 0 {
		t.Errorf("in the spool: %v, %v", left, err)
	}
}

func (h *swarmHost) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.peers)
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("in 30 seconds it did not happen that %s", what)
}
