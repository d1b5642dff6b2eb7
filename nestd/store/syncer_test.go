package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSyncerCovers: every call is answered by a round that began after it, and
// those who come while one is under way share the next. The time is that of a
// bubble, so it does not matter how many processors there are: all callers wait
// before a round ends.
func TestSyncerCovers(t *testing.T) {
	t.Parallel()
	const callers, times = 16, 200
	synctest.Test(t, func(t *testing.T) {
		var s syncer
		var written, durable, rounds atomic.Int64
		do := func() error {
			rounds.Add(1)
			seen := written.Load()
			time.Sleep(time.Millisecond) // others come meanwhile
			durable.Store(seen)
			return nil
		}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range times {
					mine := written.Add(1)
					if err := s.sync(t.Context(), do); err != nil || durable.Load() < mine {
						t.Errorf("write %d: durable up to %d, %v", mine, durable.Load(), err)
					}
				}
			})
		}
		wg.Wait()
		// A caller waits for at most one round that it came too late for, and those
		// of one round come back together.
		if n := rounds.Load(); n > 2*times+2 {
			t.Errorf("%d rounds for %d calls of %d callers", n, callers*times, callers)
		}
		synctest.Wait()
		if s.running || s.next != nil {
			t.Error("it still runs")
		}
	})
}

// TestSyncerFails: an error is that of its round only, and who gives up does
// not keep others waiting.
func TestSyncerFails(t *testing.T) {
	t.Parallel()
	var s syncer
	broken := errors.New("disk error")
	began, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(began) })
		first <- s.sync(context.Background(), func() error { once(); <-goOn; return broken })
	}()
	<-began
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.sync(gone, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	close(goOn)
	if err := <-first; !errors.Is(err, broken) {
		t.Errorf("the round that failed: %v", err)
	}
	for {
		s.mu.Lock()
		idle := !s.running
		s.mu.Unlock()
		if idle {
			break
		}
	}
	if err := s.sync(context.Background(), func() error { return nil }); err != nil {
		t.Errorf("the round after: %v", err)
	}
}
