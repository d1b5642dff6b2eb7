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
	held   atomic.Bool
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
	if !w.held.Load() && now-w.before < w.tuning.MinBytes {
		w.cancel(errStalled)
		return
	}
	w.before = now
	w.timer.Reset(w.tuning.Stall)
}

// Saw notes that n bytes have come.
func (w *Watch) Saw(n int) { w.seen.Add(int64(n)) }

// Hold does what keeps this side from reading, during which nothing is
// expected of the server.
func (w *Watch) Hold(do func() error) error {
	w.held.Store(true)
	begin := time.Now()
	err := do()
	if time.Since(begin) > w.tuning.Stall/8 { // then the rest of this Stall might be too short
		w.seen.Add(w.tuning.MinBytes)
	}
	w.held.Store(false)
	return err
}

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
