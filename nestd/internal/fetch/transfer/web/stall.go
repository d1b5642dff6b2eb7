package web

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

var errStalled = errors.New("the server sends too slowly")

// Watch is a reader of one server's answer that ends the request when fewer
// than Tuning.MinBytes come in Tuning.Stall: a server may take hours for a
// large file, but may not hold us with nothing.
type Watch struct {
	seen   atomic.Int64
	cancel context.CancelCauseFunc
	timer  *time.Timer
	tuning Tuning
	before int64 // of the timer's goroutine
}

// Watch returns a context for a request and its watch, which begins now. Stop
// must be called.
func (c *Client) Watch(ctx context.Context) (context.Context, *Watch) {
	w := &Watch{tuning: c.tuning}
	ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(c.tuning.Stall, w.look)
	return ctx, w
}

// look runs once in each Stall.
func (w *Watch) look() {
	now := w.seen.Load()
	if now-w.before < w.tuning.MinBytes {
		w.cancel(errStalled)
		return
	}
	w.before = now
	w.timer.Reset(w.tuning.Stall)
}

// Saw notes that n bytes have come.
func (w *Watch) Saw(n int) { w.seen.Add(int64(n)) }

// Stop ends the watch and the request.
func (w *Watch) Stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// Reader returns r, watched.
func (w *Watch) Reader(r io.Reader) io.Reader { return watched{r, w} }

type watched struct {
	r io.Reader
	w *Watch
}

func (r watched) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.w.Saw(n)
	return n, err
}

// Cause prefers the reason why ctx ended over the error that it led to.
func Cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
