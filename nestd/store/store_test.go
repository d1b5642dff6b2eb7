package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

func TestFillAndPlace(t *testing.T) {
	t.Parallel()
	s, p := openedIn(t, t.TempDir()), sample(t)
	var last int64
	st := stage(t, s)
	result, err := st.Fill(t.Context(), &p.list, isPrivate, p.unpacked(), func(done, total int64) {
		if last = max(last, done); total != 48 {
			t.Errorf("progress %d of %d", done, total)
		}
	})
	if err == nil {
		err = st.Sync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Layer(p.id); ok {
		t.Error("the layer is in its place before Place")
	}
	if err := st.Place(t.Context(), p.id); err != nil {
		t.Fatal(err)
	}
	if last != 48 || result.Objects != 8 || result.Shared != 7 || result.Stored != 41 {
		t.Errorf("progress ended at %d, result %+v", last, result)
	}
	mustBeSound(t, s, p)
}

// TestTreeAsMade looks at what Check takes from the plan, with the kernel's
// own words.
func TestTreeAsMade(t *testing.T) {
	t.Parallel()
	s, p := opened(t), sample(t)
	install(t, s, p)
	layer, _ := s.Layer(p.id)
	tests := []struct {
		path  string
		mode  uint32
		links uint64 // 0: any
		mtime int64
	}{
		{"", unix.S_IFDIR | 0o755, 0, 1},
		{"/usr", unix.S_IFDIR | 0o755, 0, 1},
		{"/usr/lib/app", unix.S_IFDIR | 0o555, 0, 1},
		{"/etc/app.d", unix.S_IFDIR | 0o700, 0, 1},
		{"/etc/app.conf", unix.S_IFREG | 0o600, 2, 1},
		{"/usr/bin/app", unix.S_IFREG | 0o755, 4, 1}, // app2, same, the object
		{"/usr/bin/su", unix.S_IFREG | 0o4755, 2, 1},
		{"/usr/bin/app-link", unix.S_IFLNK | 0o777, 1, 1},
		{"/usr/lib/app/m.py", unix.S_IFREG | 0o644, 2, 1700000000},
		{"/usr/lib/app/__pycache__/m.cpython-311.pyc", unix.S_IFREG | 0o644, 2, 1},
		{"/var/lib/app/game", unix.S_IFREG | 0o600, 2, 1},
	}
	for _, tt := range tests {
		var stat unix.Stat_t
		if err := unix.Lstat(layer+tt.path, &stat); err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		if stat.Mode != tt.mode || tt.links != 0 && stat.Nlink != tt.links || stat.Mtim.Sec != tt.mtime || stat.Uid != 0 || stat.Gid != 0 {
			t.Errorf("%s: mode %o, %d links, time %d, owner %d:%d; want mode %o, %d links, time %d, owner 0:0",
				tt.path, stat.Mode, stat.Nlink, stat.Mtim.Sec, stat.Uid, stat.Gid, tt.mode, tt.links, tt.mtime)
		}
	}
	for _, missing := range []string{"/usr/lib/app/pipe", "/var/lib/app/cache"} {
		if _, err := os.Lstat(layer + missing); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want that it is not there", missing, err)
		}
	}
	have, err := xattrs(layer + "/usr/bin/ping")
	if err != nil || !sameXattrs(have, map[string][]byte{repo.CapabilityXattr: capability}) {
		t.Errorf("extended attributes of ping: %v, %v", have, err)
	}
}

// TestSharing says that two packages share files of equal content and
// metadata, and nothing else.
func TestSharing(t *testing.T) {
	t.Parallel()
	s := opened(t)
	first := newPack(t,
		repo.File{Path: "/a/same", Mode: 0o644, Link: "x", ModTime: 5},
		repo.File{Path: "/a/mode", Mode: 0o644, Link: "y"},
		repo.File{Path: "/a/cap", Mode: 0o755, Link: "z"})
	second := newPack(t,
		repo.File{Path: "/b/other", Mode: 0o644, Link: "x", ModTime: 6},
		repo.File{Path: "/b/mode", Mode: 0o755, Link: "y"},
		repo.File{Path: "/b/cap", Mode: 0o755, Link: "z", Xattrs: map[string][]byte{repo.CapabilityXattr: capability}})
	install(t, s, first)
	if got, want := install(t, s, second), (Result{Stored: 2, Shared: 1, Objects: 2}); got != want {
		t.Errorf("second package: %+v, want %+v", got, want)
	}
	if objects, _ := s.CheckObjects(t.Context()); objects != 5 {
		t.Errorf("%d objects, want 5", objects)
	}
	mustBeSound(t, s, first, second)

	if err := s.Remove(t.Context(), first.id); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, second)
	if objects, _ := s.CheckObjects(t.Context()); objects != 3 {
		t.Errorf("%d objects after removal, want 3", objects)
	}
	if err := s.Remove(t.Context(), second.id); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), second.id); err != nil {
		t.Errorf("second removal: %v", err)
	}
	mustBeSound(t, s)
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	s, kept, gone := opened(t), small(t, "kept", 5), small(t, "gone", 8)
	install(t, s, kept)
	st, _ := fill(t, s, gone)
	if err := st.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, kept)
	if objects, _ := s.CheckObjects(t.Context()); objects != 5 {
		t.Errorf("%d objects, want 5", objects)
	}
}

func TestPlaceTwice(t *testing.T) {
	t.Parallel()
	s, p := opened(t), small(t, "p", 3)
	first, _ := fill(t, s, p)
	second, _ := fill(t, s, p)
	for range 2 {
		if err := first.Place(t.Context(), p.id); err != nil {
			t.Fatal(err)
		}
	}
	if err := second.Place(t.Context(), p.id); !errors.Is(err, os.ErrExist) {
		t.Errorf("placing over a layer: %v, want that it exists", err)
	}
	if err := second.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, p)
}

func TestOneDaemon(t *testing.T) {
	t.Parallel()
	s := opened(t)
	if _, err := Open(t.Context(), Options{Dir: s.Dir()}); !errors.Is(err, ErrBusy) {
		t.Errorf("second open: %v, want %v", err, ErrBusy)
	}
}

func TestStageNeedsRecover(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := open(t, fastDir(t), nil)
	defer s.Close()
	if _, err := s.Stage(); !errors.Is(err, errNotRecovered) {
		t.Errorf("stage: %v, want %v", err, errNotRecovered)
	}
}

// TestClosedToOthers says that nobody but root reaches the store by its path.
func TestClosedToOthers(t *testing.T) {
	t.Parallel()
	s := opened(t)
	info, err := os.Stat(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the store is %o, want 700", got)
	}
}

// TestManyLinks plays a file system that allows three links to an inode.
func TestManyLinks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// Package a moves its file into the tree and links it to objects/; b is
	// the third link; c finds no room; d finds some at c's copy; e, none.
	full := []bool{false, true, true, false, true, true}
	most := func(step durable.Step, path string) (before, after error) {
		isObject := len(filepath.Base(filepath.Dir(path))) == 2
		if step != durable.StepLink || isObject {
			return nil, nil
		}
		if next := full[0]; next {
			before = unix.EMLINK
		}
		full = full[1:]
		return before, nil
	}
	s := open(t, fastDir(t), most)
	defer s.Close()
	recovered(t, s, nil)
	packs := []*pack{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		p := newPack(t, repo.File{Path: "/opt/" + name, Mode: 0o644, Link: "the same"})
		install(t, s, p)
		packs = append(packs, p)
	}
	mustBeSound(t, s, packs...)
	objects, err := s.objects()
	if err != nil {
		t.Fatal(err)
	}
	var suffixes []string
	for _, object := range objects {
		suffixes = append(suffixes, filepath.Ext(object))
	}
	if len(suffixes) != 3 || suffixes[0] != "" || suffixes[1] != ".1" || suffixes[2] != ".2" {
		t.Errorf("copies %q, want one without, .1 and .2", suffixes)
	}
	for _, p := range packs {
		if err := s.Remove(t.Context(), p.id); err != nil {
			t.Fatal(err)
		}
	}
	mustBeSound(t, s)
}

// TestManyRealLinks goes over the limit of ext4, 65 000.
func TestManyRealLinks(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 65 000 links")
	}
	s := openedIn(t, t.TempDir())
	files := []repo.File{{Path: "/opt/00000", Mode: 0o644}}
	for i := 1; i < 64990; i++ {
		files = append(files, repo.File{Path: fmt.Sprintf("/opt/%05d", i), Mode: 0o644, LinkTo: "/opt/00000"})
	}
	many := newPack(t, files...)
	install(t, s, many)
	var few []repo.File
	for i := range 20 {
		few = append(few, repo.File{Path: fmt.Sprintf("/srv/%02d", i), Mode: 0o644})
	}
	rest := newPack(t, few...)
	result := install(t, s, rest)
	mustBeSound(t, s, many, rest)
	if result.Objects == 0 {
		t.Skip("this file system allows more than 65 000 links")
	}
	if objects, _ := s.CheckObjects(t.Context()); objects != 2 {
		t.Errorf("%d objects, want 2", objects)
	}
	stats, err := s.Stats(t.Context(), []Packaged{of(many, "alice", "many", 0), of(rest, "alice", "rest", 0)}, nil, isPrivate)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Packaged.Files != 21 || stats.Within.Files != 19 || stats.Packages.Files != 1 || stats.Copies.Files != 1 || stats.Stored.Files != 2 {
		t.Errorf("stats: %+v; want 21 files, 20 of them saved, and one copy", stats)
	}
	mustAddUp(t, stats)
	if err := s.Remove(t.Context(), many.id); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, rest)
}
