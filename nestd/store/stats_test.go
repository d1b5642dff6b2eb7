package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stork/repo"
	"stork/repo/durable"
)

// of says whose package a pack is.
func of(p *pack, publisher, name string, users int) Packaged {
	return Packaged{ID: p.id, Publisher: publisher, Name: name, Users: users, List: func() (*repo.FileList, error) { return &p.list, nil }}
}

// TestStatsByCause counts each file at the nearest place where the same is.
func TestStatsByCause(t *testing.T) {
	t.Parallel()
	s := opened(t)
	file := func(path, content string) repo.File { return repo.File{Path: path, Mode: 0o644, Link: content} }
	v1 := newPack(t, file("/a/1", "everywhere"), file("/a/2", "everywhere"), file("/a/3", "versions"),
		repo.File{Path: "/a/4", Mode: 0o644, Link: "versions", LinkTo: "/a/3"}, file("/a/v", "1"))
	v2 := newPack(t, file("/a/1", "everywhere"), file("/a/3", "versions"), file("/a/v", "2"))
	v3 := newPack(t, file("/a/1", "everywhere"), file("/a/3", "versions"), file("/a/v", "3"))
	other := newPack(t, file("/b/1", "everywhere"), file("/b/2", "everywhere"), file("/b/3", "versions"))
	bobs := newPack(t, file("/c/1", "everywhere"), file("/c/p", "bob's"),
		repo.File{Path: "/c/x", Mode: 0o755, Link: "everywhere"},
		repo.File{Path: "/c/conf", Mode: 0o644, Link: "everywhere", Flags: []repo.FileFlag{repo.Config}})
	carols := newPack(t, file("/d/1", "everywhere"), repo.File{Path: "/d/link", Type: repo.Symlink, Link: "1"})
	for _, p := range []*pack{v1, v2, v3, other, bobs, carols} {
		install(t, s, p)
	}
	layers := []Packaged{
		of(v2, "alice", "a", 0), of(bobs, "bob", "a", 3), of(v1, "alice", "a", 2), of(carols, "carol", "a", 1),
		of(other, "alice", "b", 0), of(v3, "alice", "a", 0),
	}
	got, err := s.Stats(t.Context(), layers, nil, isPrivate)
	if err != nil {
		t.Fatal(err)
	}
	n := func(files int) Amount { return Amount{files, int64(files) * 4096} }
	want := &Stats{
		Layers: 6, Packaged: n(4 + 3 + 3 + 3 + 4 + 1), Stored: n(2 + 3 + 3),
		Within: n(1 + 1), Versions: n(2 * 2), Packages: n(2), Publishers: n(2), Modes: n(2),
		Users: n(4 + 2*3), // bob's users have copies of the configuration file
	}
	want.LayerBytes, want.ObjectBytes = got.LayerBytes, got.ObjectBytes // what a directory takes is the file system's affair
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	mustAddUp(t, got)
	mustBeOnDisk(t, s, got)
}

// TestStatsTimes: sources that byte-code was made of keep their times, so they
// are objects of their own.
func TestStatsTimes(t *testing.T) {
	t.Parallel()
	s := opened(t)
	python := func(mtime int64) *pack {
		return newPack(t,
			repo.File{Path: "/p/__pycache__/m.cpython-311.pyc", Mode: 0o644, Link: "code"},
			repo.File{Path: "/p/m.py", Mode: 0o644, Link: "source", ModTime: mtime},
			repo.File{Path: "/p/n.py", Mode: 0o644, Link: "no code", ModTime: mtime})
	}
	one, two := python(1000), python(2000)
	install(t, s, one)
	install(t, s, two)
	got, err := s.Stats(t.Context(), []Packaged{of(one, "alice", "p", 0), of(two, "alice", "p", 0)}, nil, isPrivate)
	if err != nil {
		t.Fatal(err)
	}
	if got.Stored.Files != 4 || got.Versions.Files != 2 || got.Times != (Amount{1, 4096}) || got.Modes.Files != 0 {
		t.Errorf("stats: %+v; want 4 objects, 2 shared, one for its time", got)
	}
	mustAddUp(t, got)
}

// TestStatsOfWhatIsLeft: copies for want of links, what only a merged tree
// has, and a layer whose list is lost.
func TestStatsOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	needRoot(t)
	links := 0
	s := open(t, fastDir(t), func(step durable.Step, path string) (before, after error) {
		if step == durable.StepLink && len(filepath.Base(filepath.Dir(path))) != 2 {
			if links++; links == 1 {
				return unix.EMLINK, nil
			}
		}
		return nil, nil
	})
	defer s.Close()
	recovered(t, s, nil)
	a := newPack(t, repo.File{Path: "/a", Mode: 0o644, Link: "same"})
	b := newPack(t, repo.File{Path: "/b", Mode: 0o644, Link: "same"})
	lost := newPack(t, repo.File{Path: "/lost", Mode: 0o644, Link: "lost"})
	for _, p := range []*pack{a, b, lost} {
		install(t, s, p)
	}
	unread := of(lost, "alice", "lost", 0)
	unread.List = func() (*repo.FileList, error) { return nil, os.ErrNotExist }
	got, err := s.Stats(t.Context(), []Packaged{of(a, "alice", "a", 0), of(b, "alice", "b", 0), unread}, nil, isPrivate)
	if err != nil {
		t.Fatal(err)
	}
	block := Amount{1, 4096}
	if got.Copies != block || got.Loose != block || got.Packages != block || got.Unread != 1 || got.Stored.Files != 3 {
		t.Errorf("stats: %+v; want a copy, a loose object, a shared file and a lost list", got)
	}
	mustAddUp(t, got)
}

// TestStatsAddUp holds the sums, and what is on disk, for packages at random.
func TestStatsAddUp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	rapid.Check(t, func(r *rapid.T) {
		s := openedIn(t, fastDir(t))
		var layers []Packaged
		users := make([][]repo.Digest, rapid.IntRange(0, 70).Draw(r, "users"))
		known := map[repo.Digest]bool{}
		for range rapid.IntRange(1, 6).Draw(r, "packages") {
			p := randomPack(t, r)
			if known[p.id] {
				continue
			}
			known[p.id] = true
			install(t, s, p)
			layers = append(layers, of(p, rapid.SampledFrom([]string{"a", "b"}).Draw(r, "publisher"), rapid.SampledFrom([]string{"x", "y"}).Draw(r, "name"), 0))
			for i := range users {
				if rapid.IntRange(0, 2).Draw(r, "uses") == 0 {
					users[i] = append(users[i], p.id)
				}
			}
		}
		stats, err := s.Stats(t.Context(), layers, nil, isPrivate)
		if err != nil {
			r.Fatal(err)
		}
		mustAddUp(r, stats)
		mustBeOnDisk(t, s, stats)
		skip := func(_ repo.Digest, path string) bool { return strings.HasSuffix(path, "0") }
		division, err := s.Divide(t.Context(), users, skip)
		if err != nil {
			r.Fatal(err)
		}
		groups := rapid.IntRange(1, 5).Draw(r, "groups")
		for _, all := range [][]Usage{
			division.Among(len(users), func(i int) int { return i }), division.Among(groups, func(i int) int { return i % groups }),
		} {
			disk, cache := division.Unused()
			for _, u := range all {
				disk, cache = disk+u.Disk.Fair, cache+u.Cache.Fair
				if u.Disk.Private > u.Disk.Fair || u.Disk.Fair > u.Disk.Apparent || u.Cache.Private > u.Cache.Fair || u.Cache.Fair > u.Cache.Apparent {
					r.Errorf("not private ≤ fair ≤ apparent: %+v", u)
				}
			}
			if want := stats.Stored.Bytes + stats.LayerBytes; disk != want {
				r.Errorf("the parts of the disk are %d bytes, the store has %d", disk, want)
			}
			if want := cachedObjects(t, s); cache != want {
				r.Errorf("the parts of the page cache are %d bytes, the store has %d", cache, want)
			}
		}
	})
}

func randomPack(t *testing.T, r *rapid.T) *pack {
	var list []repo.File
	for i := range rapid.IntRange(1, 8).Draw(r, "files") {
		list = append(list, repo.File{
			Path: fmt.Sprintf("/d%d/%d", i/3, i), Link: strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 4097, 9000}).Draw(r, "size")),
			Mode: rapid.SampledFrom([]uint32{0o644, 0o755}).Draw(r, "mode"),
		})
	}
	return newPack(t, list...)
}

// mustAddUp holds the equation of Stats.
func mustAddUp(t rapid.TB, s *Stats) {
	t.Helper()
	sum := s.Packaged
	for _, saved := range []Amount{s.Within, s.Versions, s.Packages, s.Publishers} {
		sum.Files, sum.Bytes = sum.Files-saved.Files, sum.Bytes-saved.Bytes
	}
	for _, more := range []Amount{s.Copies, s.Loose} {
		sum.Files, sum.Bytes = sum.Files+more.Files, sum.Bytes+more.Bytes
	}
	if sum != s.Stored {
		t.Errorf("what is said makes %+v, stored are %+v: %+v", sum, s.Stored, s)
	}
}

// mustBeOnDisk holds the sum to all inodes that the trees have.
func mustBeOnDisk(t *testing.T, s *Store, stats *Stats) {
	t.Helper()
	inodes := map[uint64]int64{}
	err := filepath.WalkDir(s.LayersDir(), func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(s.LayersDir(), path); err != nil || !strings.Contains(rel, "/") {
			return err // the store's own directories
		}
		var stat unix.Stat_t
		err = unix.Lstat(path, &stat)
		inodes[stat.Ino] = stat.Blocks * 512
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, bytes := range inodes {
		total += bytes
	}
	if got := stats.Stored.Bytes + stats.LayerBytes; got != total {
		t.Errorf("objects and frames are %d bytes, the trees have %d", got, total)
	}
}

func cachedObjects(t *testing.T, s *Store) (total int64) {
	t.Helper()
	objects, err := s.objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		total += cached(object)
	}
	return total
}
