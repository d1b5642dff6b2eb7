package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

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
type workers struct {
	jobs   chan func()
	quit   chan struct{}
	done   sync.WaitGroup
	locked *os.File // mount namespace whose root is the layers
}

// startWorkers makes the locked namespace and n threads in it.
func startWorkers(layersDir string, n int) (*workers, error) {
	w := &workers{jobs: make(chan func()), quit: make(chan struct{})}
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
		w.done.Add(1)
		defer w.done.Done()
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

// do runs job on a worker and returns its error. Once begun, a job is waited
// for: it must not block on what a guest controls.
func (w *workers) do(ctx context.Context, job func() error) error {
	result := make(chan error, 1)
	select {
	case w.jobs <- func() { result <- job() }:
		return <-result
	case <-w.quit:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the threads, after the jobs that they have begun, and releases
// the namespace.
func (w *workers) close() error {
	close(w.quit)
	w.done.Wait()
	return w.locked.Close()
}
