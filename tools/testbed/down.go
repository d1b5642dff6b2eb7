package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Down ends the testbed in a folder and removes what Up made there. It also
// clears up after an Up that was killed, and after a Down that was.
func Down(ctx context.Context, dir string) error {
	t, err := load(dir)
	if err != nil {
		return err
	}
	if err := t.state.Hub.kill(ctx); err != nil {
		return fmt.Errorf("cannot end the testbed: %w", err)
	}
	// The hub's last act is to let go of this, also if the one that started
	// it had no time to write down who it was.
	lock, err := t.waitForLock(ctx)
	if err != nil {
		return fmt.Errorf("cannot end the testbed: %w", err)
	}
	defer lock.Close()
	return t.clear()
}

// waitForLock waits until no process of the testbed is left.
func (t *Testbed) waitForLock(ctx context.Context) (*os.File, error) {
	for {
		lock, err := takeLock(t.path("lock"), false)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// clear removes what Up made, the state last, so that an interrupted Down can
// be repeated.
func (t *Testbed) clear() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return fmt.Errorf("cannot remove the testbed: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "state.json" || e.Name() == "lock" {
			continue
		}
		if err := removeTree(t.path(e.Name())); err != nil {
			return fmt.Errorf("cannot remove the testbed: %w", err)
		}
	}
	err = errors.Join(os.Remove(t.path("lock")), os.Remove(t.path("state.json")))
	if err != nil {
		return fmt.Errorf("cannot remove the testbed: %w", err)
	}
	_ = os.Remove(t.dir) // if nothing of somebody else's is in it
	return nil
}

// removeTree removes directories too that their owner may not read, which
// overlayfs makes.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	for range 16 { // each round opens one directory more
		var pathErr *os.PathError
		if !errors.As(err, &pathErr) || !errors.Is(err, os.ErrPermission) {
			return err
		}
		if os.Chmod(pathErr.Path, 0o700) != nil {
			return err
		}
		err = os.RemoveAll(path)
	}
	return err
}

// kill ends a process, if it is still the one that was recorded, and waits
// for its end. As the process is number 1 of a PID namespace, every process
// in that has ended before.
func (p process) kill(ctx context.Context) error {
	if p.PID == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot hold process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// Asked while the descriptor holds whoever has the number now.
	now, err := processOf(p.PID)
	if err != nil || now != p {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("cannot end process %d: %w", p.PID, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil) // if it is a child of ours
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot wait for process %d: %w", p.PID, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
