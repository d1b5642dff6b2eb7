package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"stork/repo"
)

// Lane is a method with what the configuration says of it.
type Lane struct {
	Method  Method
	MinSize int64 // bytes; smaller blobs do without this method

	// Stall is how long there may be less progress than Options.Progress while
	// this method works, before the next lane joins it. When all have joined,
	// the transfer fails after the longest Stall of those that still work. 0:
	// the method watches itself, and ends when it is time to.
	Stall time.Duration
}

// Options say how a scheduler works.
type Options struct {
	Spool    *os.Root // where blobs are
	Lanes    []Lane   // in order of preference
	Progress int64    // bytes; less within a lane's Stall is none
	Jobs     int      // blobs at a time; one more for each priority above the lowest
	Limits   *Limits  // of the nest
	Log      *slog.Logger
}

// Scheduler brings blobs. Its methods may be called from several goroutines.
type Scheduler struct {
	options Options
	queue   *queue

	mu      sync.Mutex
	running map[repo.Digest]*transfer
}

// NewScheduler returns a scheduler.
func NewScheduler(o Options) *Scheduler {
	return &Scheduler{options: o, queue: newQueue(o.Jobs), running: map[repo.Digest]*transfer{}}
}

// Progress is how far a blob is.
type Progress struct {
	Stored   int64 // bytes of it that are there
	Received int64 // bytes that came over the network for it
	Peers    int   // servers and peers that are sending
	Ledger   []Entry
}

// Fetch brings a blob into the spool, in a file that has the digest's
// hexadecimal form as its name, and returns when it is there and is what the
// digest names. What an earlier try has left is gone on with. Whoever asks for
// a blob that is being fetched waits for the same transfer, which ends when
// nobody waits any more. tell may be nil; it is called by one goroutine about
// ten times a second, and not after Fetch has returned. The error wraps those
// of this package; Progress is right in any case.
func (s *Scheduler) Fetch(ctx context.Context, o Order, tell func(Progress)) (Progress, error) {
	t := s.join(o)
	defer s.leave(t)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.progress(), ctx.Err()
		case <-t.done:
			return t.progress(), t.err
		case <-ticker.C:
			if tell != nil {
				tell(t.progress())
			}
		}
	}
}

// tick is how often somebody is told of progress, and how often a transfer
// looks whether there is any.
const tick = 100 * time.Millisecond

// join returns the transfer of a blob, started if there is none.
func (s *Scheduler) join(o Order) *transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.running[o.Object.Digest]
	if before != nil && before.order.Object == o.Object && before.waiters > 0 {
		before.waiters++
		before.place.raise(o.Priority)
		return before
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &transfer{scheduler: s, order: o, cancel: cancel, done: make(chan struct{}), waiters: 1, peers: map[int]int{}}
	t.place = s.queue.place(o.Priority)
	s.running[o.Object.Digest] = t
	go func() {
		defer close(t.done)
		if before != nil { // which is about to end, or wants another size
			<-before.done
		}
		t.err = t.run(ctx)
		cancel()
		s.forget(t)
	}()
	return t
}

// leave ends a transfer that nobody waits for, and waits for its end, so that
// whoever comes next finds nobody in the file.
func (s *Scheduler) leave(t *transfer) {
	s.mu.Lock()
	t.waiters--
	last := t.waiters == 0
	if last {
		t.cancel()
	}
	s.mu.Unlock()
	if last {
		<-t.done
	}
}

func (s *Scheduler) forget(t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[t.order.Object.Digest] == t {
		delete(s.running, t.order.Object.Digest)
	}
}

// transfer is one blob on its way.
type transfer struct {
	scheduler *Scheduler
	order     Order
	place     *place
	cancel    context.CancelFunc
	done      chan struct{} // closed when err is final
	err       error
	waiters   int // under scheduler.mu

	held atomic.Int32 // connections that wait for the limits

	mu    sync.Mutex
	blob  *Blob
	last  Progress // of a blob that is closed
	peers map[int]int
}

// maxMismatches is how often a whole blob may turn out to be damaged. Each
// time its senders are banned, or made to work one at a time.
const maxMismatches = 4

// run brings the blob.
func (t *transfer) run(ctx context.Context) error {
	if err := t.place.wait(ctx); err != nil {
		return err
	}
	defer t.place.leave()
	if t.place.current() >= Interactive {
		t.scheduler.options.Limits.hurry()
	}
	blob, err := openBlob(t.scheduler.options.Spool, t.order)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.blob = blob
	t.mu.Unlock()
	err = t.fill(ctx, blob)
	t.mu.Lock()
	t.last = t.now()
	t.blob = nil
	t.mu.Unlock()
	if closeErr := blob.close(); err == nil && closeErr != nil {
		err = &SpoolError{closeErr}
	}
	return err
}

// fill lets methods work until the blob is whole and right.
func (t *transfer) fill(ctx context.Context, blob *Blob) error {
	for mismatches := 0; ; {
		if err := t.attempt(ctx, blob); err != nil {
			return err
		}
		right, err := blob.verify(ctx)
		if err != nil || right {
			return err
		}
		t.scheduler.options.Log.Warn("blob is damaged", "digest", t.order.Object.Digest, "ledger", blob.Ledger())
		if mismatches++; mismatches == maxMismatches {
			return ErrMismatch
		}
	}
}

// pace holds a method to the limits.
func (t *transfer) pace(ctx context.Context, n int) error {
	t.held.Add(1)
	defer t.held.Add(-1)
	return t.scheduler.options.Limits.Pace(ctx, t.place.current(), n)
}

// progress says how far the transfer is.
func (t *transfer) progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blob == nil {
		return t.last
	}
	return t.now()
}

// now is progress; t.mu is held and the blob is open.
func (t *transfer) now() Progress {
	p := Progress{Stored: t.blob.Stored(), Received: t.blob.received(), Ledger: t.blob.Ledger()}
	for _, n := range t.peers {
		p.Peers += n
	}
	return p
}

// lanes returns those that this blob takes.
func (t *transfer) lanes() []Lane {
	var lanes []Lane
	for _, lane := range t.scheduler.options.Lanes {
		if t.order.Object.Size >= lane.MinSize {
			lanes = append(lanes, lane)
		}
	}
	return lanes
}

// worse chooses between the reasons why two lanes have ended: that what came
// was wrong says most, then the reason of the lane that comes last, which is
// the one that is always tried.
func worse(a, b error) error {
	switch {
	case b == nil || errors.Is(a, ErrMismatch):
		return a
	default:
		return b
	}
}

// errNoMethod is of a configuration without any method for small blobs.
var errNoMethod = fmt.Errorf("no method is configured for it")
