package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// TestTryLock: a lock that is given back within the grace is taken, one that
// is kept is refused.
func TestTryLock(t *testing.T) {
	t.Parallel()
	open := func() *os.File {
		f, err := os.OpenFile(filepath.Join(t.TempDir(), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	again := func(f *os.File) *os.File {
		g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close() })
		return g
	}
	first := open()
	second := again(first)
	if err := durable.TryLock(first); err != nil {
		t.Fatal(err)
	}
	if err := durable.TryLock(second); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a lock that another has: got %v, want EWOULDBLOCK", err)
	}
	time.AfterFunc(30*time.Millisecond, func() { first.Close() })
	if err := durable.TryLock(second); err != nil {
		t.Errorf("a lock that is given back: %v", err)
	}
}
