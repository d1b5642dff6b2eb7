package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHold: the process that holds an overlay has nothing else open, and ends
// when it is let go.
func TestHold(t *testing.T) {
	t.Parallel()
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := hold([]*os.File{f})
	if h.pid == 0 {
		t.Fatal("there is no process")
	}
	open := map[string]int{}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		clear(open)
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			at, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", h.pid, d.Name()))
			open[at]++
		}
		if len(open) == 2 && len(list) == 2 || time.Since(start) > 10*time.Second {
			break
		}
	}
	if len(open) != 2 || open[f.Name()] != 1 {
		t.Errorf("the process has %v open", open)
	}
	f.Close()
	pid := h.release()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got == pid || err != nil {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("the process does not end")
		}
	}
}

// TestExchangeLetsGo: the overlay that an exchange replaces is dropped by
// another process, and it is dropped.
func TestExchangeLetsGo(t *testing.T) {
	t.Parallel()
	w := newGuest(t, Overlay)
	versions := []Layer{program(w, "1"), program(w, "2")}
	w.change(Overlay, versions[:1])
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	w.must(err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, filepath.Join(w.root, "usr/lib/hello"), unix.IN_DELETE_SELF)
	w.must(err)
	plan, err := w.plan(Overlay, versions[1:], versions[0])
	w.must(err)
	root := w.open(nil)
	for i := range plan.Elements {
		_, err := plan.Apply(t.Context(), root, i, w.views)
		w.must(err)
	}
	if len(root.holders) != 1 {
		t.Errorf("%d processes hold what was exchanged, want 1", len(root.holders))
	}
	w.commit(plan)
	buf := make([]byte, 4096)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		_, err := unix.Read(watch, buf) // that its file system is unmounted, whatever the mask
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EAGAIN) || time.Since(start) > 10*time.Second {
			t.Fatalf("the old overlay is still there: %v", err)
		}
	}
}
