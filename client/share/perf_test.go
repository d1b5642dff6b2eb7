package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

// large is a guest with 2 000 files of its own, and three packages of which
// one has 10 000 files.
func large(w *world) []Layer {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Join(w.root, kept), 0o755))
	for i := range 2000 {
		w.write(fmt.Sprintf("usr/lib/own/%02d/%d", i%50, i), "own")
	}
	var big []repo.File
	for i := range 10_000 {
		big = append(big, file(fmt.Sprintf("/usr/lib/big/%02d/%d", i%100, i), "content"))
	}
	return []Layer{w.layer("first", file("/usr/lib/first", "1")), w.layer("big", big...),
		w.layer("small", file("/usr/lib/own/00/small", "s"))}
}

// TestOverlayTenThousandFiles: what a package costs whose environment is there
// already does not depend on its size: planning and applying read no directory
// that the guest and the packages do not have in common, and take as many
// steps for 10 000 files as for one.
func TestOverlayTenThousandFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	steps := map[string]int{}
	for _, l := range large(w) {
		plan, err := w.plan(Overlay, []Layer{l}) // has the environment built
		w.must(err)
		next := plan.Elements[0].Environment
		c := Change{Method: Overlay, Tag: "7", Add: []Layer{l}, Names: w.names, Now: &w.env, Next: next}
		opened := w.watch(filepath.Join(w.raw(w.root), "usr/lib/own/*"), filepath.Join(next.Trees[0], "usr/lib/big/*"),
			filepath.Join(w.raw(l.View), "usr/lib/big/*"))
		plan, err = MakePlan(t.Context(), w.open(nil), w.placed, c)
		w.must(err)
		w.apply(plan, func(durable.Step, string) (error, error) {
			steps[l.Name]++
			return nil, nil
		})
		list := opened()
		if l.Name == "small" && len(list) == 0 {
			t.Error("it was not seen that a directory was opened")
		}
		for _, dir := range list {
			if l.Name != "small" || !strings.HasSuffix(dir, "/own/00") {
				t.Errorf("%s: %s was opened", l.Name, dir)
			}
		}
		w.commit(plan)
	}
	if steps["big"] != steps["small"] || steps["big"] == 0 {
		t.Errorf("steps: %v, want as many for a big package as for a small one", steps)
	}
}

// watch returns a function that lists which directories have been opened.
func (w *world) watch(patterns ...string) func() []string {
	w.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	w.must(err)
	w.t.Cleanup(func() { unix.Close(fd) })
	dirs := map[int32]string{}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		w.must(err)
		for _, dir := range found {
			id, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN|unix.IN_ONLYDIR)
			w.must(err)
			dirs[int32(id)] = dir
		}
	}
	if len(dirs) < 50 {
		w.t.Fatalf("%d directories are watched", len(dirs))
	}
	return func() []string {
		var opened []string
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EAGAIN) {
				return opened
			}
			w.must(err)
			for at := 0; at < n; { // struct inotify_event
				if binary.NativeEndian.Uint32(buf[at+4:])&unix.IN_OPEN != 0 {
					opened = append(opened, dirs[int32(binary.NativeEndian.Uint32(buf[at:]))])
				}
				at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
			}
		}
	}
}

// BenchmarkOverlayTenThousandFiles exchanges environments of one package of
// 10 000 files and of one with a single file.
func BenchmarkOverlayTenThousandFiles(b *testing.B) {
	for _, fs := range []string{"tmpfs", "disk"} {
		b.Run(fs, func(b *testing.B) {
			w := newWorldOn(b, fs)
			layers := large(w)
			w.change(Overlay, layers[:1])
			w.exchange(layers[1], layers[0])
			w.exchange(layers[0], layers[1])
			unix.Sync() // what was written is not to be waited for
			b.ResetTimer()
			for i := range b.N {
				w.exchange(layers[(i+1)%2], layers[i%2])
			}
		})
	}
}
