package durable

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How long TryLock waits, and how often it looks.
const (
	lockGrace = 300 * time.Millisecond
	lockPoll  = 10 * time.Millisecond
)

// TryLock takes the file's lock (flock(2), exclusive) or returns
// [unix.EWOULDBLOCK] if somebody else has it. It waits for a moment, though: a
// child that this or another process has just forked shares all locks until
// it executes its program, and one that gave its lock back then still seems
// to hold it.
func TryLock(f *os.File) error {
	for began := time.Now(); ; time.Sleep(lockPoll) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(began) > lockGrace {
			return err
		}
	}
}
