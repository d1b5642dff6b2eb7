package attach

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread of its own, whose root,
// working directory and namespaces fn may change: the thread ends with fn and
// is never given back to the runtime. If ctx ends first, onThread returns its
// error and fn goes on by itself; fn therefore owns whatever it uses.
func onThread(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread can not end, and /proc/self shows its
			// namespaces as the process's. Block it until another has
			// done the work, then give it back untouched.
			defer runtime.UnlockOSThread()
			done <- onThread(context.WithoutCancel(ctx), fn)
			return
		}
		done <- fn()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
