package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/repo"
)

// nest is one that takes part, with a spool and a scheduler of its own.
type nest struct {
	*Swarm
	dir       string
	scheduler *transfer.Scheduler
}

// newNest starts one at an address of its own, from which it announces too.
func newNest(t testing.TB, change func(*Options)) *nest {
	t.Helper()
	n := &nest{dir: t.TempDir()}
	spool, err := os.OpenRoot(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	n.Swarm = newSwarm(t, func(o *Options) {
		dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(o.Listen)}
		o.HTTP = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
		o.Spool, o.Seeds = spool, true
		if change != nil {
			change(o)
		}
	})
	n.scheduler = transfer.NewScheduler(transfer.Options{
		Spool: spool, Lanes: []transfer.Lane{{Method: n, Stall: 15 * time.Second}}, Progress: 1, Jobs: 4, Limits: transfer.NewLimits(transfer.Schedule{}),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	return n
}

// fetch brings text within a minute.
func (n *nest) fetch(t testing.TB, text []byte, places ...string) (transfer.Progress, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := n.scheduler.Fetch(ctx, transfer.Order{Object: repo.ObjectOf(text), Places: places, Pieces: piecesOf(text)}, nil)
	if err != nil {
		return got, err
	}
	b, err := os.ReadFile(filepath.Join(n.dir, repo.DigestOf(text).Hex()))
	if err == nil && !bytes.Equal(b, text) {
		err = errors.New("other bytes are in the spool")
	}
	return got, err
}

// seed makes the nest seed text from a file that it may not write.
func (n *nest) seed(t testing.TB, text []byte, places ...string) Seed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, text, 0o400); err != nil {
		t.Fatal(err)
	}
	info := infoOfText(text)
	seed := Seed{Blob: info.Blob, Hash: info.Swarm().InfoHash, Places: places, Open: func() (*repo.Info, *os.File, error) {
		f, err := os.Open(path)
		return info, f, err
	}}
	if err := n.Seed(seed); err != nil {
		t.Fatal(err)
	}
	return seed
}

// TestNests lets nests that begin at once find each other through a tracker,
// one seeding: it sends much less than each of them a copy.
func TestNests(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(8<<20, 1)
	tr := startTracker(t)
	place := TrackerPlace(tr.URL + "/announce/token/info")
	first := newNest(t, func(o *Options) { o.Upload = rate.NewLimiter(4<<20, MinBurst) })
	first.seed(t, text, place)
	until(t, func() bool { return len(tr.seen()) > 0 })
	var wait sync.WaitGroup
	const leechers = 5
	for range leechers {
		n := newNest(t, nil)
		wait.Go(func() {
			got, err := n.fetch(t, text, place)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%+v", got.Ledger)
		})
	}
	wait.Wait()
	sent := first.Seeds()[0].Sent
	t.Logf("the seed sent %d bytes of %d to each of %d", sent, len(text), leechers)
	if limit := int64(leechers*len(text)) * 3 / 4; sent < int64(len(text)) || sent > limit {
		t.Errorf("the seed sent %d bytes, want %d to %d", sent, len(text), limit)
	}
	until(t, func() bool { return strings.Contains(fmt.Sprint(tr.seen()), "completed left 0") })
}

func until(t testing.TB, is func() bool) {
	t.Helper()
	for range 2000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen in 20 seconds")
}

// TestHostileAmongGood: with two good peers and two of a bad kind everything
// ends right, in a time that is not much longer.
func TestHostileAmongGood(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(8<<20, 1)
	for _, fault := range []transfertest.Fault{
		"", transfertest.Corrupt, transfertest.Short, transfertest.Endless, transfertest.Drip, transfertest.Vanishing,
		transfertest.Absent, transfertest.Interrupted,
	} {
		t.Run("fault "+string(fault), func(t *testing.T) {
			t.Parallel()
			var places []string
			for range 2 {
				places = append(places, PeerPlace(startPeer(t, newHost(), text, fault).at), PeerPlace(startPeer(t, newHost(), text, transfertest.Slow).at))
			}
			n := newNest(t, nil)
			begin := time.Now()
			got, err := n.fetch(t, text, places...)
			t.Logf("%v, %+v", time.Since(begin), got.Ledger)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestOthersBringPieces: what another method brings is no loss for peers: they
// get it from us.
func TestOthersBringPieces(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(4<<20, 1)
	web := newNest(t, nil)
	peer := newNest(t, nil)
	spool, err := os.OpenRoot(web.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	both := transfer.NewScheduler(transfer.Options{
		Spool: spool, Progress: 1, Jobs: 1, Limits: transfer.NewLimits(transfer.Schedule{}), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Lanes: []transfer.Lane{{Method: web, Stall: 100 * time.Millisecond}, {Method: slowly{text}, Stall: 10 * time.Second}},
	})
	done := make(chan error, 1)
	go func() {
		_, err := both.Fetch(t.Context(), transfer.Order{Object: repo.ObjectOf(text), Pieces: piecesOf(text)}, nil)
		done <- err
	}()
	got, err := peer.fetch(t, text, PeerPlace(web.Addr()))
	if err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("%+v", got.Ledger)
}

// slowly is another method that has the blob, and takes its time.
type slowly struct{ text []byte }

// Name implements [transfer.Method].
func (slowly) Name() string { return "slowly" }

// Fetch implements [transfer.Method].
func (m slowly) Fetch(ctx context.Context, job *transfer.Job) error {
	for {
		claim, err := job.Blob.Claim(ctx, transfer.Source{Method: "slowly"}, 64<<10)
		if claim == nil {
			return err
		}
		r := claim.Range()
		time.Sleep(20 * time.Millisecond)
		_, err = claim.Write(m.text[r.From:r.To])
		claim.Release()
		if err != nil && !errors.Is(err, transfer.ErrTaken) {
			return err
		}
	}
}

// TestNetworks: who is not in an allowed network is neither let in nor
// connected to.
func TestNetworks(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1<<20, 1)
	outside := startPeer(t, newHost(), text, "")
	n := newNest(t, func(o *Options) { o.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	order := transfer.Order{Object: repo.ObjectOf(text), Places: []string{PeerPlace(outside.at)}, Pieces: piecesOf(text)}
	if _, err := n.scheduler.Fetch(ctx, order, nil); !errors.Is(err, context.DeadlineExceeded) || outside.sent.Load() != 0 {
		t.Errorf("%v, and %d bytes came from outside", err, outside.sent.Load())
	}
	n.seed(t, text)
	if greets(t, n.Addr(), infoOfText(text).Swarm().InfoHash) {
		t.Error("one from outside is let in")
	}
}

// greets connects and reports whether the other side answers the handshake.
func greets(t testing.TB, at netip.AddrPort, hash repo.InfoHash) bool {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := append([]byte("\x13BitTorrent protocol\x00\x00\x00\x00\x00\x00\x00\x00"), hash[:]...)
	if _, err := conn.Write(append(hello, "-XX0000-abcdefghijkl"...)); err != nil {
		return false
	}
	if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 68)
	n, _ := conn.Read(answer)
	return n > 0
}
