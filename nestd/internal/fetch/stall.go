package fetch

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

var errStalled = errors.New("the server sends too slowly")

// stallReader ends ctx's work when fewer than min bytes come in a window: a
// server may take hours for a large file, but may not hold us with nothing.
type stallReader struct {
	r    io.Reader
	seen *atomic.Int64
}

func (s stallReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.seen.Add(int64(n))
	return n, err
}

// watchStall returns a context that is cancelled with errStalled, a counter
// that whoever reads must raise, and the function that ends the watch and
// waits for it.
func watchStall(ctx context.Context, t Tuning) (context.Context, *atomic.Int64, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	seen := new(atomic.Int64)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		ticker := time.NewTicker(t.Stall)
		defer ticker.Stop()
		var before int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				now := seen.Load()
				if now-before < t.MinBytes {
					cancel(errStalled)
					return
				}
				before = now
			}
		}
	}()
	return ctx, seen, func() { cancel(nil); <-finished }
}

// causeOf prefers the reason why ctx ended over the error that it led to.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
