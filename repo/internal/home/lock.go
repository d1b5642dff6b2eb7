package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// lockPoll is how often a taken lock is tried again: flock(2) can not be
// given up when a context ends.
const lockPoll = 20 * time.Millisecond

// Lock waits until nobody else writes the repository, in this process or in
// another. The lock ends with unlock, and with the process.
func (h *Home) Lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock repository: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("cannot lock repository: %w", err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("cannot lock repository: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// ErrServed says that another process serves the repository.
var ErrServed = errors.New("another process serves this repository")

// ClaimUploads makes this process the only one that takes uploads, until
// release, or until it ends. The error wraps ErrServed if another is.
func (h *Home) ClaimUploads() (release func(), err error) {
	dir, err := os.Open(h.Uploads())
	if err != nil {
		return nil, fmt.Errorf("cannot claim uploads: %w", err)
	}
	if err := durable.TryLock(dir); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrServed
		}
		return nil, fmt.Errorf("cannot claim uploads of %s: %w", h.dir, err)
	}
	return func() { dir.Close() }, nil
}
