package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// errClosed is the answer of an Attacher after Close.
var errClosed = errors.New("the nest is stopping")

// workers are operating system threads that change their mount namespace.
// Between jobs they stand in the locked namespace, so that no guest's
// namespace is kept alive by them.
//
// They live as long as the Attacher: a thread that ends takes with it every
// child process that was started on it with a parent-death signal.
//
// A guest that holds the lock of its view (see [Attacher.Place]) holds up the
// thread that works for it, and nothing can end that. It is given up after a
// time without progress, and another one takes its place, so that others go on;
// when the guest lets go it is one more.
type workers struct {
	jobs     chan func()
	quit     chan struct{}
	locked   *os.File // mount namespace whose root is the layers
	log      *slog.Logger
	want     int           // how many threads there are to be that are not held up
	patience time.Duration // how long a job may take without progress

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	running int // threads that are not held up
	held    int // threads that guests hold up
	closed  bool
}

// maxHeld is how many threads may be held up before no others take their
// places. Each takes a guest of its own, for the calls of one wait for each
// other.
const maxHeld = 256

// patience is how long a thread may stand still.
const patience = 10 * time.Second

// startWorkers makes the locked namespace and n threads in it.
func startWorkers(layersDir string, n int, log *slog.Logger) (*workers, error) {
	w := &workers{jobs: make(chan func()), quit: make(chan struct{}), log: log, want: n, patience: patience}
	w.changed.L = &w.mu
	if err := w.start(func() (err error) {
		w.locked, err = lockedNamespace(layersDir)
		return err
	}); err != nil {
		return nil, err
	}
	for range n - 1 {
		if err := w.start(w.reset); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// count notes that threads have come or gone.
func (w *workers) count(running, held int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running += running
	w.held += held
	w.changed.Broadcast()
}

// start runs prepare on a new worker, and waits until it has.
func (w *workers) start(prepare func() error) error {
	prepared := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread can not end, and /proc/self shows its
			// namespaces as the process's. Keep it busy until another
			// is found, then give it back untouched.
			defer runtime.UnlockOSThread()
			prepared <- w.start(prepare)
			return
		}
		w.count(1, 0)
		defer w.count(-1, 0)
		err := prepare()
		prepared <- err
		if err != nil {
			return
		}
		w.work()
	}()
	return <-prepared
}

func (w *workers) work() {
	for {
		select {
		case job := <-w.jobs:
			job()
		case <-w.quit:
			return
		}
		if w.stopping() {
			return
		}
		if w.reset() != nil {
			// Whatever it stands in, it must not work on from there.
			_ = w.start(w.reset)
			return
		}
	}
}

// reset brings the thread back to the locked namespace.
func (w *workers) reset() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("cannot leave the nest's root: %w", err)
	}
	return setMounts(w.locked)
}

// stopping reports whether close has been called.
func (w *workers) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// do runs job on a worker and sends its error. Once begun, a job is waited for:
// if a guest holds it up, done hears of that after a while, and do returns only
// when the guest has let go. progress counts what the job has done so far.
func (w *workers) do(ctx context.Context, progress *atomic.Int64, job func() error, done chan<- error) {
	result := make(chan error, 1)
	select {
	case w.jobs <- func() { result <- job() }:
	case <-w.quit:
		done <- errClosed
		return
	case <-ctx.Done():
		done <- ctx.Err()
		return
	}
	timer := time.NewTicker(w.patience)
	defer timer.Stop()
	for last := int64(-1); last != progress.Load(); {
		last = progress.Load()
		select {
		case err := <-result:
			done <- err
			return
		case <-timer.C:
		}
	}
	w.giveUp()
	done <- fmt.Errorf("its view does not answer: %w", ErrNotAttached)
	<-result
	w.count(1, -1)
	w.log.Info("a guest has let go of a thread that attaches")
}

// giveUp counts a thread out, and has another one take its place.
func (w *workers) giveUp() {
	w.mu.Lock()
	w.running--
	w.held++
	held := w.held
	more := w.running < w.want && held <= maxHeld && !w.closed
	w.changed.Broadcast()
	w.mu.Unlock()
	w.log.Warn("a guest holds up a thread that attaches", "held", held, "replaced", more)
	if !more {
		return
	}
	if err := w.start(w.reset); err != nil {
		w.log.Error("cannot replace a thread that a guest holds up", "err", err)
	}
}

// close ends the threads, after the jobs that they have begun, and releases
// the namespace. Those that guests hold up end when these let go.
func (w *workers) close() error {
	close(w.quit)
	w.mu.Lock()
	w.closed = true
	for w.running > 0 {
		w.changed.Wait()
	}
	w.mu.Unlock()
	return w.locked.Close()
}
