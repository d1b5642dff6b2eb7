package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"stork/repo"
)

// memberOf is how a package takes part in a merge.
func memberOf(p *pack) Member {
	return Member{ID: p.id, Private: func() ([]string, error) {
		var paths []string
		for i := range p.list.Files {
			if isPrivate(&p.list.Files[i]) {
				paths = append(paths, p.list.Files[i].Path)
			}
		}
		return paths, nil
	}}
}

func membersOf(packs ...*pack) []Member {
	var list []Member
	for _, p := range packs {
		list = append(list, memberOf(p))
	}
	return list
}

// tree is a merged tree that a test has made.
type tree struct {
	id    repo.Digest
	merge Merge
	Merged
}

// merged makes and places a merged tree.
func merged(t testing.TB, s *Store, name string, m Merge) *tree {
	t.Helper()
	made, err := tryMerge(t, s, name, m)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func tryMerge(t testing.TB, s *Store, name string, m Merge) (*tree, error) {
	t.Helper()
	st := stage(t, s)
	result, err := st.Merge(t.Context(), m)
	if err != nil {
		if err := st.Discard(); err != nil {
			t.Fatal(err)
		}
		return nil, err
	}
	made := &tree{id: repo.DigestOf([]byte("tree " + name)), merge: m, Merged: result}
	if err := st.Place(t.Context(), made.id); err != nil {
		t.Fatal(err)
	}
	return made, nil
}

// shown returns what a guest sees of a stack of trees, as the kernel's
// overlay shows it: one line for each path.
func shown(t testing.TB, s *Store, trees ...*tree) map[string]string {
	t.Helper()
	dir := s.layerPath(trees[0].id)
	if len(trees) > 1 {
		var lower []string
		for _, tr := range trees {
			lower = append(lower, s.layerPath(tr.id))
		}
		dir = filepath.Join(t.TempDir(), "overlay")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		}()
	}
	return walked(t, dir)
}

func walked(t testing.TB, dir string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(file, &stat); err != nil {
			return err
		}
		line := fmt.Sprintf("%v %04o %d:%d", d.Type(), stat.Mode&0o7777, stat.Uid, stat.Gid)
		switch d.Type() {
		case 0:
			line += fmt.Sprintf(" %d inode %d", stat.Mtim.Sec, stat.Ino)
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			line += " " + target
		}
		lines[strings.TrimPrefix(file, dir)] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// paths returns what is there, without saying what.
func paths(lines map[string]string) []string { return slices.Sorted(maps.Keys(lines)) }

func regular(path, content string) repo.File {
	return repo.File{Path: path, Mode: 0o644, Link: content}
}

func dir(path string, mode uint32) repo.File {
	return repo.File{Path: path, Type: repo.Dir, Mode: mode}
}

func symlink(path, target string) repo.File {
	return repo.File{Path: path, Type: repo.Symlink, Mode: 0o777, Link: target}
}

func config(path string) repo.File {
	return repo.File{Path: path, Mode: 0o644, Link: path, Flags: []repo.FileFlag{repo.Config}}
}

// installed makes layers.
func installed(t testing.TB, s *Store, packs ...*pack) {
	t.Helper()
	for _, p := range packs {
		install(t, s, p)
	}
}

func TestMergeWhole(t *testing.T) {
	t.Parallel()
	s := opened(t)
	a, b := sample(t), newPack(t, regular("/usr/bin/other", "other"), symlink("/usr/bin/app-link", "app"),
		repo.File{Path: "/usr/bin/app", Mode: 0o755, Link: "program"}, config("/etc/other/conf"), dir("/usr/empty", 0o750), dir("/usr/lib/app", 0o755))
	installed(t, s, a, b)
	tr := merged(t, s, "whole", Merge{Add: membersOf(a, b)})
	want := map[string]string{}
	for _, p := range []*pack{b, a} {
		maps.Copy(want, walked(t, s.layerPath(p.id)))
	}
	for _, private := range []string{"/etc/app.conf", "/etc/other/conf", "/var/lib/app/game"} {
		if want[private] == "" {
			t.Errorf("no layer has %s", private)
		}
		delete(want, private)
	}
	if diff := cmp.Diff(want, shown(t, s, tr)); diff != "" {
		t.Errorf("merged tree (-want +got):\n%s", diff)
	}
	if got, want := tr.Merged, (Merged{Files: 10, Dirs: 12}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, problem := range s.CheckMerged(t.Context(), tr.id, tr.merge) {
		t.Error(problem)
	}
}

// TestMergeDelta goes from one set to another, and compares what the stack
// shows with the whole tree of the second.
func TestMergeDelta(t *testing.T) {
	t.Parallel()
	base := func(t *testing.T) []*pack {
		return []*pack{
			newPack(t, regular("/usr/bin/a", "a"), regular("/usr/share/doc/a/readme", "a"), regular("/usr/share/license", "gpl"), dir("/usr/share/doc", 0o711)),
			newPack(t, regular("/usr/bin/b", "b"), regular("/usr/share/license", "gpl"), symlink("/usr/lib64", "lib")),
		}
	}
	for _, test := range []struct {
		name string
		drop []int
		add  []*pack
		want []string // of the delta tree
	}{
		{"nothing", nil, nil, nil},
		{"a file more", nil, []*pack{newPack(t, regular("/usr/bin/c", "c"))}, []string{"/usr", "/usr/bin", "/usr/bin/c"}},
		{"what is there already", nil, []*pack{newPack(t, regular("/usr/bin/b", "b"), symlink("/usr/lib64", "lib"))}, nil},
		{"a mode", nil, []*pack{newPack(t, dir("/usr/bin", 0o700))}, []string{"/usr", "/usr/bin"}},
		{"a mode that gives way", nil, []*pack{newPack(t, dir("/usr/share/doc", 0o700))}, nil},
		{"a package less", []int{0}, nil, []string{"/usr", "/usr/bin", "/usr/bin/a", "/usr/share", "/usr/share/doc"}},
		{"another version", []int{0}, []*pack{newPack(t, regular("/usr/bin/a", "a2"), regular("/usr/share/doc/a/readme", "a"), dir("/usr/share/doc", 0o711))},
			[]string{"/usr", "/usr/bin", "/usr/bin/a"}},
		{"a file becomes a directory", []int{0}, []*pack{newPack(t, regular("/usr/bin/a/now", "a"))},
			[]string{"/usr", "/usr/bin", "/usr/bin/a", "/usr/bin/a/now", "/usr/share", "/usr/share/doc"}},
		{"a directory becomes a file", []int{0}, []*pack{newPack(t, regular("/usr/share/doc", "all"))},
			[]string{"/usr", "/usr/bin", "/usr/bin/a", "/usr/share", "/usr/share/doc"}},
		{"a symlink turns", []int{1}, []*pack{newPack(t, symlink("/usr/lib64", "lib32"))},
			[]string{"/usr", "/usr/bin", "/usr/bin/b", "/usr/lib64"}},
		{"everything goes", []int{0, 1}, []*pack{newPack(t, regular("/opt/x", "x"))}, []string{"/opt", "/opt/x", "/usr"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, have := opened(t), base(t)
			installed(t, s, slices.Concat(have, test.add)...)
			whole := merged(t, s, "base", Merge{Add: membersOf(have...)})
			m := Merge{Base: []repo.Digest{whole.id}, Add: membersOf(test.add...)}
			after := slices.Clone(test.add)
			for i, p := range have {
				if slices.Contains(test.drop, i) {
					m.Drop = append(m.Drop, memberOf(p))
				} else {
					m.Keep = append(m.Keep, memberOf(p))
					after = append(after, p)
				}
			}
			delta := merged(t, s, "delta", m)
			want := merged(t, s, "want", Merge{Add: membersOf(after...)})
			if diff := cmp.Diff(shown(t, s, want), shown(t, s, delta, whole)); diff != "" {
				t.Errorf("delta over base (-whole +stack):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, paths(walked(t, s.layerPath(delta.id)))); diff != "" {
				t.Errorf("delta tree (-want +got):\n%s", diff)
			}
			for _, tr := range []*tree{whole, delta, want} {
				for _, problem := range s.CheckMerged(t.Context(), tr.id, tr.merge) {
					t.Error(problem)
				}
				for _, problem := range s.CheckLoose(t.Context(), tr.id, tr == delta) {
					t.Error(problem)
				}
			}
		})
	}
}

func TestMergeConflict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path string
		a, b       repo.File
	}{
		{"content", "/x", regular("/x", "1"), regular("/x", "2")},
		{"mode", "/x", regular("/x", "1"), repo.File{Path: "/x", Mode: 0o755, Link: "1"}},
		{"size alike", "/d/x", regular("/d/x", "1"), regular("/d/x", "2")},
		{"type", "/x", regular("/x", "1"), symlink("/x", "1")},
		{"target", "/x", symlink("/x", "1"), symlink("/x", "2")},
		{"directory and file", "/x", regular("/x/y", "1"), regular("/x", "1")},
		{"directory and symlink", "/x", regular("/x/y", "1"), symlink("/x", "y")},
		{"modes of directories", "/x", dir("/x", 0o750), dir("/x", 0o555)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := opened(t)
			a, b := newPack(t, test.a, regular("/only/a", "a")), newPack(t, test.b, regular("/only/b", "b"))
			installed(t, s, a, b)
			check := func(err error) {
				t.Helper()
				var conflict *ConflictError
				if !errors.As(err, &conflict) {
					t.Fatalf("got %v, want a conflict", err)
				}
				got := []repo.Digest{conflict.Layers[0], conflict.Layers[1]}
				if conflict.Path != test.path || !slices.Contains(got, a.id) || !slices.Contains(got, b.id) {
					t.Errorf("got conflict %+v, want %s of both", conflict, test.path)
				}
			}
			_, err := tryMerge(t, s, "whole", Merge{Add: membersOf(a, b)})
			check(err)
			for _, both := range [][2]*pack{{a, b}, {b, a}} {
				base := merged(t, s, "base "+both[0].id.Hex(), Merge{Add: membersOf(both[0])})
				_, err = tryMerge(t, s, "delta", Merge{Base: []repo.Digest{base.id}, Keep: membersOf(both[0]), Add: membersOf(both[1])})
				check(err)
			}
			if objects, problems := s.CheckObjects(t.Context()); len(problems) > 0 {
				t.Errorf("%d objects: %v", objects, problems)
			}
		})
	}
}

func TestMergeAliases(t *testing.T) {
	t.Parallel()
	s := opened(t)
	aliases := map[string]string{"/bin": "/usr/bin", "/lib": "/usr/lib", "/opt/old": "/srv/new/place"}
	a := newPack(t, regular("/bin/sh", "sh"), regular("/usr/bin/env", "env"), config("/bin/own"), dir("/bin/sub", 0o750))
	b := newPack(t, symlink("/bin", "usr/bin"), regular("/usr/bin/sh", "sh"), regular("/usr/bin/sub/tool", "tool"))
	c := newPack(t, regular("/lib/ld.so", "ld"), regular("/opt/old/deep/file", "deep"))
	installed(t, s, a, b, c)
	whole := merged(t, s, "whole", Merge{Add: membersOf(a, b, c), Aliases: aliases})
	want := []string{"/bin", "/opt", "/srv", "/srv/new", "/srv/new/place", "/srv/new/place/deep", "/srv/new/place/deep/file",
		"/usr", "/usr/bin", "/usr/bin/env", "/usr/bin/sh", "/usr/bin/sub", "/usr/bin/sub/tool", "/usr/lib", "/usr/lib/ld.so"}
	got := shown(t, s, whole)
	if diff := cmp.Diff(want, paths(got)); diff != "" {
		t.Errorf("aliased (-want +got):\n%s", diff)
	}
	if !strings.Contains(got["/usr/bin/sub"], "0750") {
		t.Errorf("/usr/bin/sub is %s", got["/usr/bin/sub"])
	}
	// One after the other, and then one less, makes the same.
	one := merged(t, s, "1", Merge{Add: membersOf(b), Aliases: aliases})
	two := merged(t, s, "2", Merge{Base: []repo.Digest{one.id}, Keep: membersOf(b), Add: membersOf(a, c), Aliases: aliases})
	if diff := cmp.Diff(got, shown(t, s, two, one)); diff != "" {
		t.Errorf("added to (-whole +stack):\n%s", diff)
	}
	three := merged(t, s, "3", Merge{Base: []repo.Digest{two.id, one.id}, Keep: membersOf(a), Drop: membersOf(b, c), Aliases: aliases})
	alone := merged(t, s, "4", Merge{Add: membersOf(a), Aliases: aliases})
	if diff := cmp.Diff(shown(t, s, alone), shown(t, s, three, two, one)); diff != "" {
		t.Errorf("taken from (-whole +stack):\n%s", diff)
	}

	clash := newPack(t, regular("/bin/env", "another"))
	installed(t, s, clash)
	var conflict *ConflictError
	if _, err := tryMerge(t, s, "clash", Merge{Base: []repo.Digest{whole.id}, Keep: membersOf(a, b, c), Add: membersOf(clash), Aliases: aliases}); !errors.As(err, &conflict) ||
		conflict.Path != "/usr/bin/env" || conflict.Layers != [2]repo.Digest{a.id, clash.id} {
		t.Errorf("got %v, want a conflict at /usr/bin/env", err)
	}
}

func TestCheckAliases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to string
		ok       bool
	}{
		{"/bin", "/usr/bin", true}, {"/usr/lib64", "/usr/lib", true}, {"/a/b", "/a", true},
		{"bin", "/usr/bin", false}, {"/bin", "usr/bin", false}, {"/", "/usr", false}, {"/usr", "/", false},
		{"/bin/", "/usr/bin", false}, {"/bin", "/usr/../bin", false}, {"/a", "/a", false}, {"/a", "/a/b", false},
		{"/lib/x", "/usr", false}, {"/x", "/lib", false}, {"/x", "/lib/y", false}, {"/x\x00", "/y", false},
	} {
		err := CheckAliases(map[string]string{test.from: test.to, "/lib": "/usr/lib"})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrAlias) {
			t.Errorf("%s → %s: got %v, want ok: %v", test.from, test.to, err, test.ok)
		}
	}
}

// TestMergeLimits: what packages have can not keep the host busy without end.
func TestMergeLimits(t *testing.T) {
	t.Parallel()
	s := opened(t)
	p := small(t, "many", 50)
	installed(t, s, p)
	if _, err := tryMerge(t, s, "large", Merge{Add: membersOf(p), Limit: 50}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want too large", err)
	}
	if _, err := tryMerge(t, s, "twice", Merge{Add: membersOf(p), Keep: membersOf(p)}); err == nil {
		t.Error("a layer took part twice")
	}
	if _, err := tryMerge(t, s, "absent", Merge{Add: []Member{{ID: repo.DigestOf(nil)}}}); err == nil {
		t.Error("merged a layer that is not there")
	}
	mustBeSound(t, s, p)
}

// TestMergeOutlivesLayers: a merged tree keeps its objects when the layers
// go, and gives them back when it goes itself.
func TestMergeOutlivesLayers(t *testing.T) {
	t.Parallel()
	s := opened(t)
	p, q := small(t, "p", 5), small(t, "q", 7)
	installed(t, s, p, q)
	tr := merged(t, s, "both", Merge{Add: membersOf(p, q)})
	before := shown(t, s, tr)
	st := stage(t, s)
	if _, err := st.Merge(t.Context(), Merge{Add: membersOf(q)}); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []*pack{p, q} {
		if err := s.Remove(t.Context(), gone.id); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, shown(t, s, tr)); diff != "" {
		t.Errorf("tree changed:\n%s", diff)
	}
	for _, problem := range s.CheckLoose(t.Context(), tr.id, false) {
		t.Error(problem)
	}
	if err := s.Remove(t.Context(), tr.id); err != nil {
		t.Fatal(err)
	}
	if err := st.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s)
}

// TestCheckMerged: what is wrong with a merged tree is found.
func TestCheckMerged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		change     func(root string) error
	}{
		{"gone", "/opt/p/001: no such file", func(root string) error { return os.Remove(root + "/opt/p/001") }},
		{"more", "/opt/more: does not belong there", func(root string) error { return os.Mkdir(root+"/opt/more", 0o755) }},
		{"mode", "/opt: mode is 0700", func(root string) error { return os.Chmod(root+"/opt", 0o700) }},
		{"another inode", "/opt/p/001: is not the file", func(root string) error {
			if err := os.Remove(root + "/opt/p/001"); err != nil {
				return err
			}
			if err := os.WriteFile(root+"/opt/p/001", []byte("content X"), 0o644); err != nil {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, root+"/opt/p/001", fixedTimes, 0)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := opened(t)
			p := small(t, "p", 3)
			installed(t, s, p)
			tr := merged(t, s, "p", Merge{Add: membersOf(p)})
			if err := test.change(s.layerPath(tr.id)); err != nil {
				t.Fatal(err)
			}
			found := strings.Join(s.CheckMerged(t.Context(), tr.id, tr.merge), "\n")
			if !strings.Contains(found, test.want) {
				t.Errorf("got %q, want %q", found, test.want)
			}
		})
	}
}
