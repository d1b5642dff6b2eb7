package share

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCopyData: holes stay holes, and what lies between them comes along.
func TestCopyData(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	for name, test := range map[string]struct {
		size int64
		data []int64 // where there is a megabyte of data
	}{
		"empty":        {0, nil},
		"all data":     {2 * mega, []int64{0, mega}},
		"a hole only":  {1 << 40, nil},
		"hole at last": {1 << 40, []int64{0}},
		"hole first":   {1<<40 + mega, []int64{1 << 40}},
		"in between":   {1 << 40, []int64{5 * mega, 900 * mega}},
		"odd size":     {3*mega + 7, []int64{mega}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in, err := os.Create(filepath.Join(dir, "in"))
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := os.Create(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			content := bytes.Repeat([]byte("content "), mega/8)
			for _, at := range test.data {
				if _, err := in.WriteAt(content, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := in.Truncate(test.size); err != nil {
				t.Fatal(err)
			}
			if err := copyData(out, in); err != nil {
				t.Fatal(err)
			}
			var stat unix.Stat_t
			if err := unix.Fstat(int(out.Fd()), &stat); err != nil {
				t.Fatal(err)
			}
			if want := int64(len(test.data)) * mega; stat.Size != test.size || stat.Blocks*512 > want+64<<10 {
				t.Errorf("%d bytes in %d, want %d in about %d", stat.Size, stat.Blocks*512, test.size, want)
			}
			for _, at := range test.data {
				got := make([]byte, mega)
				if _, err := out.ReadAt(got, at); err != nil || !bytes.Equal(got, content) {
					t.Errorf("at %d: other content, %v", at, err)
				}
			}
		})
	}
}

// written is a guest whose root is an overlay, and that has written into the
// directory of a package.
func written(t *testing.T) (*world, Layer) {
	t.Helper()
	w := newGuest(t, nested)
	w.write("usr/lib/p/own", "before")
	l := w.layer("p", file("/usr/lib/p/f", "f"), file("/opt/p/f", "f"))
	w.change(nested, []Layer{l})
	w.write("usr/lib/p/own", "after")
	w.write("opt/p/a", "many names")
	w.must(os.MkdirAll(filepath.Join(w.root, "opt/p/sub/sub"), 0o755))
	w.must(os.Symlink("a", filepath.Join(w.root, "opt/p/s1")))
	w.must(unix.Mknod(filepath.Join(w.root, "opt/p/fifo1"), unix.S_IFIFO|0o600, 0))
	for old, name := range map[string]string{"a": "b", "./a": "sub/sub/c", "s1": "sub/s2", "fifo1": "fifo2"} {
		w.must(os.Link(filepath.Join(w.root, "opt/p", old), filepath.Join(w.root, "opt/p", name)))
	}
	return w, l
}

// rawPaths lists what the guest itself has, without environments.
func (w *world) rawPaths() []string {
	w.t.Helper()
	var list []string
	at := filepath.Join(w.dir, "root-upper")
	w.must(filepath.WalkDir(at, func(p string, _ fs.DirEntry, err error) error {
		known := func() bool { _, err := os.Lstat(filepath.Join(w.dir, "base", p[len(at):])); return err == nil }
		if !strings.HasPrefix(p[len(at):], kept) && !known() {
			list = append(list, p[len(at):])
		}
		return err
	}))
	return list
}

// TestSettleLinks: what had several names in an upper of the nest's has them
// in the guest's root.
func TestSettleLinks(t *testing.T) {
	t.Parallel()
	w, l := written(t)
	before := w.snapshot()
	w.change(nested, nil, l)
	for name, names := range map[string][]string{"a": {"b", "sub/sub/c"}, "s1": {"sub/s2"}, "fifo1": {"fifo2"}} {
		var first, st unix.Stat_t
		w.must(unix.Lstat(filepath.Join(w.root, "opt/p", name), &first))
		if int(first.Nlink) != len(names)+1 {
			t.Errorf("%s has %d names, want %d", name, first.Nlink, len(names)+1)
		}
		for _, other := range names {
			w.must(unix.Lstat(filepath.Join(w.root, "opt/p", other), &st))
			if st.Ino != first.Ino {
				t.Errorf("%s is no link to %s any more", other, name)
			}
		}
	}
	delete(before, "/usr/lib/p/f")
	delete(before, "/opt/p/f")
	if d := difference(w.snapshot(), before); d != "" {
		t.Errorf("after removal:\n%s", d)
	}
}

// TestSettleFails: what can not be moved stays where it is and as it was, below
// the environment, until the next attempt.
func TestSettleFails(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			w, l := written(t)
			before, raw := w.snapshot(), w.rawPaths()
			plan, err := w.plan(nested, nil, l)
			w.must(err)
			count := 0
			_, err = w.tryApply(plan, failing(k, after, &count))
			if count < k {
				w.must(err)
				break
			}
			if err != nil && slices.Contains(w.mounts(), filepath.Join(w.root, "opt")) {
				if d := difference(w.snapshot(), before); d != "" {
					t.Fatalf("step %d, after=%v:\n%s", k, after, d)
				}
				if got := w.rawPaths(); !after && !slices.Equal(got, raw) {
					t.Fatalf("step %d: the guest itself has %q, had %q", k, got, raw)
				}
				w.must(os.RemoveAll(filepath.Join(w.root, "opt/p/sub")))
			}
			w.apply(plan, nil)
			w.commit(plan)
			_, err = os.Lstat(filepath.Join(w.root, "opt/p/f"))
			if got := w.read("opt/p/b") + w.read("usr/lib/p/own"); got != "many namesafter" || err == nil {
				t.Fatalf("step %d, after=%v: the guest has %q, %v", k, after, got, err)
			}
			unmountBelow(t, w.root)
		}
	}
}

// TestSettleWithoutRoom: that there is no room for it is found out before
// anything is moved.
func TestSettleWithoutRoom(t *testing.T) {
	t.Parallel()
	w, l := written(t)
	const mega = 1 << 20
	w.must(os.WriteFile(filepath.Join(w.root, "opt/p/large"), make([]byte, 20*mega), 0o644))
	var st unix.Statfs_t
	w.must(unix.Statfs(w.dir, &st))
	resize := func(free uint64) {
		size := (st.Blocks-st.Bfree)*uint64(st.Bsize) + free
		w.must(unix.Mount("", w.dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
	}
	resize(10 * mega)
	before, raw := w.snapshot(), w.rawPaths()
	plan, err := w.plan(nested, nil, l)
	w.must(err)
	_, err = w.tryApply(plan, nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "20 MB") && !strings.Contains(err.Error(), "21 MB") {
		t.Errorf("got %v", err)
	}
	if d := difference(w.snapshot(), before); d != "" {
		t.Errorf("after it failed:\n%s", d)
	}
	if got := w.rawPaths(); !slices.Equal(got, raw) {
		t.Errorf("the guest itself has %q, had %q", got, raw)
	}
	resize(30 * mega)
	w.apply(plan, nil)
	w.commit(plan)
	if info, err := os.Stat(filepath.Join(w.root, "opt/p/large")); err != nil || info.Size() != 20*mega {
		t.Errorf("after the next attempt: %v", err)
	}
}
