package share

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// program is a package whose one file is this test binary, so that it can be
// run and needs no library.
func program(w *world, v string) Layer {
	l := w.layer("program-"+v, with(file("/usr/bin/hello", "x"), func(f *repo.File) { f.Mode = 0o755 }),
		file("/usr/lib/hello/data", v), file("/usr/lib/hello/only-"+v, v), file("/opt/hello/data", v),
		file("/etc/hello.conf", v, repo.Config))
	in, err := os.Open("/proc/self/exe")
	w.must(err)
	defer in.Close()
	raw := filepath.Join(w.raw(l.View), "usr/bin/hello")
	w.must(os.Remove(raw))
	out, err := os.OpenFile(raw, os.O_CREATE|os.O_WRONLY, 0o755)
	w.must(err)
	_, err = io.Copy(out, in)
	w.must(err)
	w.must(out.Close())
	return l
}

// TestSwapUnderRunningGuest: while environments are exchanged a hundred
// times, no lookup, no start of a program, no open file and no working
// directory fails, and what the guest has mounted below stays.
func TestSwapUnderRunningGuest(t *testing.T) {
	t.Parallel()
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		t.Run(fmt.Sprintf("propagation %#x", propagation), func(t *testing.T) {
			t.Parallel()
			w := newGuest(t, Overlay)
			w.must(unix.Mount(w.root, w.root, "", unix.MS_BIND, ""))
			w.must(unix.Mount("", w.root, "", propagation, ""))
			swapUnderGuest(t, w)
		})
	}
}

func swapUnderGuest(t *testing.T, w *world) {
	w.write("etc/hosts", "own")
	w.write("usr/lib/local/file", "below the mount")
	w.must(unix.Mount(filepath.Join(w.root, "etc/passwd"), filepath.Join(w.root, "etc/hosts"), "", unix.MS_BIND, ""))
	w.must(unix.Mount("tmpfs", filepath.Join(w.root, "usr/lib/local"), "tmpfs", 0, ""))
	w.write("usr/lib/local/file", "in the mount")
	mounts := len(w.mounts())
	versions := []Layer{program(w, "1"), program(w, "2")}
	before := w.snapshot()
	w.change(Overlay, versions[:1])
	data, err := os.Open(filepath.Join(w.root, "usr/lib/hello/only-1"))
	w.must(err)
	defer data.Close()

	ctx, stop := context.WithCancel(t.Context())
	var guest sync.WaitGroup
	var execs, looks, reads, cwds int
	guest.Go(func() {
		for b := make([]byte, 1); ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
			reads++
			if n, err := data.ReadAt(b, 0); n != 1 || b[0] != '1' {
				t.Errorf("the open file reads %q, %v", b, err)
			}
			f, err := os.Open(filepath.Join(w.root, "opt/hello/data"))
			if err != nil {
				t.Errorf("cannot open: %v", err)
				continue
			}
			if n, err := f.Read(b); n != 1 || b[0] != '1' && b[0] != '2' {
				t.Errorf("what was just opened reads %q, %v", b, err)
			}
			f.Close()
		}
	})
	stay := []string{w.root, filepath.Join(w.root, "var"), filepath.Join(w.root, "opt/hello")}
	stayed := make([]int, len(stay))
	for i, dir := range stay {
		guest.Go(func() { stayed[i] = stayIn(ctx, t, dir, i == 2) })
	}
	guest.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			execs++
			cmd := exec.Command(filepath.Join(w.root, "usr/bin/hello"), "-test.run=^$")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("cannot run the program: %v: %s", err, out)
			}
		}
	})
	guest.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
			looks++
			for _, p := range []string{"usr/bin/hello", "usr/lib/hello/data", "opt/hello/data", "etc/hello.conf", "usr/lib/local/file", "etc/hosts"} {
				if st, err := os.Stat(filepath.Join(w.root, p)); err != nil || st.Size() == 0 {
					t.Errorf("lookup: %v", err)
				}
			}
			if b, err := os.ReadFile(filepath.Join(w.root, "etc/hosts")); err != nil || !strings.HasPrefix(string(b), "root:") {
				t.Errorf("what was mounted on /etc/hosts has gone: %q, %v", b, err)
			}
		}
	})
	var took time.Duration
	for i := range 100 {
		took += w.exchange(versions[(i+1)%2], versions[i%2])
	}
	stop()
	guest.Wait()
	cwds = slices.Min(stayed)
	t.Logf("100 swaps planned and applied in %v; %d programs run, %d rounds of lookups, %d of reads, %d in working directories", took, execs, looks, reads, cwds)
	if min(execs, looks, reads, cwds) < 100 {
		t.Error("too little was tried")
	}
	b := make([]byte, 1)
	if n, err := data.ReadAt(b, 0); n != 1 || string(b) != "1" {
		t.Errorf("the open file reads %q, %v", b, err)
	}
	w.change(Overlay, nil, versions[0])
	if d := difference(w.snapshot(), before); d != "" {
		t.Errorf("after removal:\n%s", d)
	}
	if got := w.mounts(); len(got) != mounts {
		t.Errorf("%d mounts, want %d: %q", len(got), mounts, got)
	}
}

// stayIn is a thread of the guest that works in a directory. In one that is
// exchanged it goes on with the old one, which has no path any more: see
// getcwd(2).
func stayIn(ctx context.Context, t *testing.T, dir string, exchanged bool) (rounds int) {
	runtime.LockOSThread() // never unlocked: the thread is changed for good
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Chdir(dir)
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	for buf := make([]byte, 4096); ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
		rounds++
		n, err := unix.Getcwd(buf)
		if got := string(buf[:max(n-1, 0)]); err != nil || got != dir && !(exchanged && strings.HasPrefix(got, "(unreachable)")) {
			t.Errorf("the working directory is %q, %v", got, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(".", &st); err != nil {
			t.Errorf("cannot look at the working directory: %v", err)
		}
		if exchanged {
			if err := unix.Stat("data", &st); err != nil || st.Size != 1 {
				t.Errorf("cannot look at a file in the working directory: %v", err)
			}
		}
	}
	return rounds
}

// exchange replaces a package, with the whole environment of the new one, and
// returns how long planning and applying took.
func (w *world) exchange(add, remove Layer) time.Duration {
	w.t.Helper()
	if w.whole == nil {
		w.whole = map[repo.Digest]*Environment{}
	}
	now := w.env
	if w.whole[add.ID] == nil {
		w.env = Environment{}
		w.whole[add.ID], _ = w.environment([]Layer{add}, nil)
		w.env = now
	}
	start := time.Now()
	plan, err := MakePlan(w.t.Context(), w.open(nil), w.placed, Change{Method: Overlay, Tag: "7", Add: []Layer{add},
		Remove: []repo.Digest{remove.ID}, Names: w.names, Now: &now, Next: w.whole[add.ID]})
	w.must(err)
	w.apply(plan, nil)
	took := time.Since(start)
	w.commit(plan)
	return took
}
