package attach

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// TestViewHeld: guests that hold the lock of their view, one more than there
// are threads, hold up their own threads and no other guest.
func TestViewHeld(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a, err := Open(t.Context(), s.dir, []string{"/proc/self/exe", placerArgument}, slog.New(slog.DiscardHandler))
	must(t, err)
	a.workers.patience = 300 * time.Millisecond
	other := startGuest(t, own)
	must(t, a.Attach(t.Context(), other.peer, Identity{}, other.host, other.view, nil))
	const n = threads + 1
	var slow [n]*testGuest
	told := make(chan error, n)
	for i := range slow {
		g := startGuest(t, shared)
		slow[i] = g
		if resp := g.do(guestRequest{Op: "hold", Arg: g.view}); resp.Err != "" {
			skipOrFail(t, "needs userfaultfd: "+resp.Err)
		}
		go func() {
			told <- a.Attach(t.Context(), g.peer, Identity{HostUserNS: true}, g.host, g.view, []string{layer})
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range n {
		select {
		case err := <-told:
			wantError(t, err, ErrNotAttached)
		case <-ctx.Done():
			t.Fatal("a guest that holds its view is not told")
		}
	}
	if running, held := a.workers.counts(); running < threads || held != n {
		t.Errorf("%d threads run and %d are held up, want %d and %d", running, held, threads, n)
	}
	must(t, a.Attach(ctx, other.peer, Identity{}, other.host, other.view, []string{layer}))
	must(t, a.Detach(ctx, other.peer, Identity{}, other.host, other.view, []string{layer}))
	// Its next call waits for the first one, and takes no other thread.
	short, end := context.WithTimeout(t.Context(), time.Second)
	defer end()
	if err := a.Detach(short, slow[0].peer, Identity{HostUserNS: true}, slow[0].host, slow[0].view, []string{layer}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next call: %v", err)
	}
	for _, g := range slow[1:] {
		g.kill() // lets go of the lock
	}
	for _, held := a.workers.counts(); held > 1; _, held = a.workers.counts() {
		if ctx.Err() != nil {
			t.Fatalf("%d threads are still held up", held)
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, a.Attach(ctx, other.peer, Identity{}, other.host, other.view, []string{layer}))
	// Nor does it keep the nest from ending its work.
	closed := make(chan error, 1)
	go func() { closed <- a.workers.close() }()
	select {
	case err := <-closed:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Error("the threads do not end while a guest holds one up")
	}
	slow[0].kill()
	unlock, err := a.guests.lock(t.Context(), slow[0].host)
	must(t, err)
	unlock()
}

func (w *workers) counts() (running, held int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running, w.held
}
