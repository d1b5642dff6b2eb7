package swarm

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/repo"
)

// TestSeed follows a seed: announced, opened when it is asked for, sent up to
// its limit, given up.
func TestSeed(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1<<20, 3)
	tr := startTracker(t)
	place := TrackerPlace(tr.URL + "/announce/a/b")
	n := newNest(t, nil)
	seed := n.seed(t, text, place)
	if got := n.Seeds(); len(got) != 1 || got[0].Open || got[0].Sent != 0 || got[0].Blob != seed.Blob {
		t.Errorf("before anybody came: %+v", got)
	}
	until(t, func() bool { return strings.Contains(fmt.Sprint(tr.seen()), "started left 0") })
	if _, err := newNest(t, nil).fetch(t, text, place); err != nil {
		t.Fatal(err)
	}
	if got := n.Seeds()[0]; !got.Open || got.Sent != int64(len(text)) || got.Over {
		t.Errorf("after one came: %+v", got)
	}
	seed.Limit = 1
	if err := n.Seed(seed); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { got := n.Seeds()[0]; return got.Over && !got.Open && got.Sent == int64(len(text)) })
	if greets(t, n.Addr(), seed.Hash) {
		t.Error("who has sent enough goes on")
	}
	until(t, func() bool { return strings.Contains(fmt.Sprint(tr.seen()), "stopped") })
	if !n.Unseed(seed.Hash) || n.Unseed(seed.Hash) || len(n.Seeds()) != 0 {
		t.Errorf("it is still there: %+v", n.Seeds())
	}
	if err := n.Seed(Seed{Places: []string{TrackerPlace("ftp://x/")}}); err == nil {
		t.Error("a tracker of no kind is taken")
	}
}

// TestSeedIsWhatItSays: a file with another info dictionary, or none, is shown
// to nobody.
func TestSeedIsWhatItSays(t *testing.T) {
	t.Parallel()
	info, other := infoOfText(transfertest.Content(1<<20, 3)), infoOfText(transfertest.Content(1<<20, 4))
	for name, open := range map[string]func() (*repo.Info, *os.File, error){
		"other": func() (*repo.Info, *os.File, error) { f, err := os.Open("/dev/null"); return other, f, err },
		"gone":  func() (*repo.Info, *os.File, error) { return nil, nil, os.ErrNotExist },
	} {
		n := newNest(t, nil)
		if err := n.Seed(Seed{Blob: info.Blob, Hash: info.Swarm().InfoHash, Open: open}); err != nil {
			t.Fatal(err)
		}
		if greets(t, n.Addr(), info.Swarm().InfoHash) {
			t.Errorf("%s: it is seeded", name)
		}
	}
}

// TestGate: who says nothing, something else, or comes too often costs nothing
// and keeps nobody out.
func TestGate(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1<<20, 5)
	n := newNest(t, nil)
	seed := n.seed(t, text)
	for _, hello := range []string{"", "GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 60), strings.Repeat("\x00", 100)} {
		conn, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(hello)); err != nil {
			t.Fatal(err)
		}
		if hello == "" {
			continue // and says nothing any more
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%.10q is listened to: %v", hello, err)
		}
	}
	if greets(t, n.Addr(), repo.InfoHash{1}) {
		t.Error("a swarm that is not ours is answered")
	}
	flood(t, n.Addr().String())
	n.gate.mu.Lock()
	open := len(n.gate.conns)
	n.gate.mu.Unlock()
	if open > maxPerAddress {
		t.Errorf("%d connections of one address are open", open)
	}
	got, err := newNest(t, nil).fetch(t, text, PeerPlace(n.Addr()))
	if err != nil {
		t.Errorf("beside a flood: %+v, %v", got, err)
	}
	if n.Seeds()[0].Sent < seedSize(seed) {
		t.Error("nothing was sent")
	}
}

func seedSize(s Seed) int64 {
	info, f, err := s.Open()
	if err != nil {
		return 0
	}
	f.Close()
	return info.Size
}

// flood opens many connections that say nothing.
func flood(t testing.TB, address string) {
	for range 4 * maxPerAddress {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	time.Sleep(200 * time.Millisecond)
}

// TestSuspects: a blob that was on its way when a process panicked is given up
// after some, one that was merely there when it was killed is not.
func TestSuspects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	d, other := repo.DigestOf([]byte("a")), repo.DigestOf([]byte("b"))
	for range 5 { // killed, again and again
		if _, err := newSuspects(spool, false, log).begin(d); err != nil {
			t.Fatal(err)
		}
	}
	for range maxPanics {
		if _, err := newSuspects(spool, true, log).begin(other); err != nil {
			t.Fatal(err)
		}
	}
	s := newSuspects(spool, true, log)
	if _, err := s.begin(other); err != errSuspect {
		t.Errorf("after %d panics: %v", maxPanics, err)
	}
	if _, err := newSuspects(spool, false, log).begin(other); err != errSuspect {
		t.Errorf("after another start: %v", err)
	}
	release, err := s.begin(repo.DigestOf([]byte("c")))
	if err != nil {
		t.Fatal(err)
	}
	release()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 2 {
		t.Errorf("the spool has %q, %v; want the marks of two", names, err)
	}
}
