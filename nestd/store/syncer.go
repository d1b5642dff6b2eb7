package store

import (
	"context"
	"sync"
)

// syncer makes the file system durable for many at a time: whoever comes while
// it is at that waits for the next round, which is one for all of them. So
// hundreds of packages, of which each has hundreds of inodes, take some dozens
// of syncfs(2) and not one each.
type syncer struct {
	mu      sync.Mutex
	next    *round // for those who come now; nil: nobody has yet
	running bool
}

// round is one syncfs.
type round struct {
	done chan struct{} // closed when err is final
	err  error
}

// sync returns when do has begun and ended after the call. All do the same. If
// ctx ends first it returns its error.
func (s *syncer) sync(ctx context.Context, do func() error) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &round{done: make(chan struct{})}
	}
	r := s.next
	if !s.running {
		s.running = true
		go s.run(do) // ends when nobody waits
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *syncer) run(do func() error) {
	for {
		s.mu.Lock()
		r := s.next
		s.next = nil // who comes from here on may have written what this round misses
		s.running = r != nil
		s.mu.Unlock()
		if r == nil {
			return
		}
		r.err = do()
		close(r.done)
	}
}

// syncFS makes all that was written to the store durable.
func (s *Store) syncFS(ctx context.Context) error {
	return s.syncer.sync(ctx, func() error { return s.disk.SyncFS(s.dir) })
}
