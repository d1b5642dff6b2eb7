package web

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"stork/nestd/internal/fetch/transfer"
)

// fetch is the work of all connections on one blob.
type fetch struct {
	method *Method
	job    *transfer.Job
	wake   chan struct{} // holds one: a server may be free again

	answered chan struct{} // closed by first
	first    sync.Once     // answer or refusal

	mu      sync.Mutex
	servers []*server
	fatal   error // of this host's disk
}

// server is one place of the blob. Its fields are under fetch.mu.
type server struct {
	address   string
	source    transfer.Source
	active    int       // requests
	whole     bool      // it has no ranges: one request for everything at a time
	fruitless int       // tries in a row
	tries     int       // that failed
	rest      time.Time // until when it is left alone
	err       error     // why it is not asked any more
}

// maxTries bounds the failures of one server for one blob even if each try
// brings something, and maxRest how long it may ask to be left alone.
const (
	maxTries = 200
	maxRest  = 2 * time.Minute
)

// run returns nil when the blob is whole, or the reason when no server is left.
func (f *fetch) run(ctx context.Context) error {
	n := 1
	if size := f.job.Object.Size; size >= f.method.options.Large && !f.job.Blob.Alone() {
		n = f.method.options.Connections
	}
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			if i > 0 {
				f.holdBack(ctx)
			}
			f.work(ctx)
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-f.job.Blob.Done():
		return nil
	default:
		return f.reason()
	}
}

// holdBack waits until a server has answered the first request, so that the
// others can share its connection where that is possible, but not for long.
func (f *fetch) holdBack(ctx context.Context) {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-f.answered:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// work is one connection: it asks one server after another, until the blob is
// whole or there is nobody to ask.
func (f *fetch) work(ctx context.Context) {
	done := f.job.Blob.Done()
	for {
		s, wait, left := f.pick()
		if !left {
			f.nudge() // the others look too
			return
		}
		if s == nil {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-done:
			case <-f.wake:
			case <-timer.C:
			}
			timer.Stop()
		} else {
			f.release(s, f.request(ctx, s))
		}
		select {
		case <-ctx.Done():
			return
		case <-done:
			f.nudge()
			return
		default:
		}
	}
}

// pick chooses the server with the fewest requests, the first of several. If
// all are busy or resting it says how long to wait; left is false if there is
// nobody to wait for.
func (f *fetch) pick() (best *server, wait time.Duration, left bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fatal != nil {
		return nil, 0, false
	}
	wait = time.Second
	now, alone := time.Now(), f.job.Blob.Alone()
	for _, s := range f.servers {
		if s.err == nil && f.job.Blob.Banned(s.source) {
			s.err = transfer.ErrMismatch
		}
		if s.err != nil {
			continue
		}
		left = true
		if rest := s.rest.Sub(now); rest > 0 {
			wait = min(wait, rest)
		} else if (s.active == 0 || !s.whole) && (best == nil || s.active < best.active) {
			best = s
		}
		if alone {
			break // the others are asked when it is known that this one lies
		}
	}
	if best != nil {
		best.active++
		f.tell()
	}
	return best, wait, left
}

// tell reports how many servers are being asked. f.mu is held.
func (f *fetch) tell() {
	n := 0
	for _, s := range f.servers {
		if s.active > 0 {
			n++
		}
	}
	f.job.Peers(n)
}

// outcome is how a request ended.
type outcome struct {
	err    error
	gained int64 // bytes that came
}

// release notes what became of a request.
func (f *fetch) release(s *server, o outcome) {
	defer f.nudge()
	f.mu.Lock()
	defer f.mu.Unlock()
	s.active--
	f.tell()
	tuning := f.method.options.Client.tuning
	if o.gained >= tuning.MinBytes || o.err == nil { // less, and a server could drip for ever
		s.fruitless = 0
	}
	if o.err == nil || errors.Is(o.err, context.Canceled) {
		return
	}
	if errors.As(o.err, new(*transfer.SpoolError)) {
		f.fatal = o.err
		return
	}
	f.job.Log.Info("request failed", "digest", f.job.Object.Digest, "server", s.source.Address, "err", o.err)
	if temporary(o.err) && time.Now().Before(s.rest) {
		return // what has just ended other connections has ended this one
	}
	s.fruitless++
	s.tries++
	if !temporary(o.err) || s.fruitless >= tuning.Tries || s.tries >= maxTries {
		s.err = o.err
		if temporary(o.err) {
			f.method.options.Client.lame.note(s.source.Address, false)
		}
		return
	}
	s.rest = time.Now().Add(pause(tuning.Backoff, s.fruitless))
	var busy *BusyError
	if errors.As(o.err, &busy) && busy.After > 0 {
		s.rest = time.Now().Add(min(busy.After, maxRest))
	}
}

// nudge wakes one who waits for a server.
func (f *fetch) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// reason says why no server is left. That one sent what is wrong says most;
// that one has no such blob, least, unless it is the first.
func (f *fetch) reason() error {
	if f.fatal != nil {
		return f.fatal
	}
	var reason error
	for _, s := range f.servers {
		switch {
		case errors.Is(s.err, transfer.ErrMismatch):
			return s.err
		case reason == nil, errors.Is(reason, fs.ErrNotExist) && !errors.Is(s.err, fs.ErrNotExist):
			reason = s.err
		}
	}
	if reason == nil {
		return errNowhere
	}
	return reason
}

// errNowhere is of a blob of which no place is known.
var errNowhere = errors.New("no server is known to have it")

// temporary reports whether trying again may help.
func temporary(err error) bool {
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, transfer.ErrMismatch) && !errors.As(err, new(*PermanentError))
}

// pause is between half and all of base times two to the power of n-1, 30 s at
// most, so that many nests do not come back at one moment.
func pause(base time.Duration, n int) time.Duration {
	delay := min(base<<min(n-1, 16), 30*time.Second)
	return delay/2 + rand.N(delay/2+1)
}
