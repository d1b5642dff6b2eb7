package store

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stork/repo"
	"stork/repo/durable"
)

// capability is a v2 security.capability value: cap_net_bind_service+ep.
var capability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// pack is a file list with the content of its regular files.
type pack struct {
	list    repo.FileList
	content map[string]string
	id      repo.Digest
}

// newPack makes a package of files; a regular file's content is taken from
// Link, which no regular file has.
func newPack(t testing.TB, files ...repo.File) *pack {
	t.Helper()
	p := &pack{list: repo.FileList{Format: repo.FileListFormat}, content: map[string]string{}}
	for _, f := range files {
		if f.Type == "" {
			f.Type = repo.Regular
		}
		if f.Type == repo.Regular {
			p.content[f.Path] = f.Link
			f.Digest, f.Size, f.Link = repo.DigestOf([]byte(f.Link)), int64(len(f.Link)), ""
		}
		p.list.Files = append(p.list.Files, f)
	}
	_, object, err := p.list.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.list.Check(); err != nil {
		t.Fatal(err)
	}
	p.id = object.Digest
	return p
}

// file is one of a Source's.
type file struct {
	index   int
	size    int64
	content string
}

// files is a Source: what the unpacker of a package sends.
type files struct {
	rest    []file
	current strings.Reader
	err     error // in the place of io.EOF
}

// Next implements [Source].
func (f *files) Next() (index int, size int64, err error) {
	if len(f.rest) == 0 {
		return 0, 0, cmp.Or(f.err, io.EOF)
	}
	next := f.rest[0]
	f.rest = f.rest[1:]
	f.current.Reset(next.content)
	return next.index, next.size, nil
}

// Read implements [io.Reader].
func (f *files) Read(p []byte) (int, error) { return f.current.Read(p) }

// unpacked returns the files as the unpacker sends them.
func (p *pack) unpacked() *files {
	source := &files{}
	for i, f := range p.list.Files {
		if f.Type == repo.Regular && f.LinkTo == "" && !f.Has(repo.Ghost) {
			source.rest = append(source.rest, file{i, f.Size, p.content[f.Path]})
		}
	}
	return source
}

// isPrivate stands for the rules of client/share: what is not root's, and
// configuration.
func isPrivate(f *repo.File) bool { return !f.RootOwned() || f.Has(repo.Config) || f.Has(repo.Ghost) }

func open(t testing.TB, dir string, fault durable.Fault) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, Disk: durable.Disk{Fault: fault}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opened returns a store in a fresh directory in memory, ready for work.
func opened(t testing.TB) *Store {
	t.Helper()
	return openedIn(t, fastDir(t))
}

func openedIn(t testing.TB, dir string) *Store {
	t.Helper()
	needRoot(t)
	s := open(t, filepath.Join(dir, "store"), nil)
	recovered(t, s, nil)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func recovered(t testing.TB, s *Store, ready map[repo.Digest]string) {
	t.Helper()
	lost, err := s.Recover(context.Background(), ready)
	if err != nil {
		t.Fatal(err)
	}
	if len(lost) != 0 {
		t.Fatalf("lost layers %v", lost)
	}
}

// fastDir returns a directory in memory, if there is one. These tests sync
// thousands of times without ever pulling the plug, and delete thousands of
// files, after which ext4 makes new ones slowly for minutes: it does not like
// to use an inode again that was just freed.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stork-store-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// needRoot skips where files can not be given to root: with one user only.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("the store's tests need root")
	}
	t.Skip("the store's tests need root")
}

// stage makes a stage.
func stage(t testing.TB, s *Store) *Stage {
	t.Helper()
	st, err := s.Stage()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// fill stages and fills p.
func fill(t testing.TB, s *Store, p *pack) (*Stage, Result) {
	t.Helper()
	st := stage(t, s)
	result, err := st.Fill(t.Context(), &p.list, isPrivate, p.unpacked(), nil)
	if err == nil {
		err = st.Sync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return st, result
}

// install fills and places p.
func install(t testing.TB, s *Store, p *pack) Result {
	t.Helper()
	st, result := fill(t, s, p)
	if err := st.Place(t.Context(), p.id); err != nil {
		t.Fatal(err)
	}
	return result
}

// mustBeSound fails the test if the store has anything but these layers, or
// one of them is not right.
func mustBeSound(t testing.TB, s *Store, packs ...*pack) {
	t.Helper()
	ids, err := s.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(packs) {
		t.Errorf("%d layers, want %d", len(ids), len(packs))
	}
	for _, p := range packs {
		for _, problem := range s.Check(t.Context(), p.id, &p.list, isPrivate) {
			t.Error(problem)
		}
	}
	objects, found := s.CheckObjects(t.Context())
	for _, problem := range found {
		t.Error(problem)
	}
	if len(packs) == 0 && objects != 0 {
		t.Errorf("%d objects without layers", objects)
	}
	for _, name := range []string{stagingName, trashName} {
		left, err := os.ReadDir(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 0 {
			t.Errorf("%s has %d entries", name, len(left))
		}
	}
}

// sample is a package with one of everything.
func sample(t testing.TB) *pack {
	t.Helper()
	return newPack(t,
		repo.File{Path: "/etc/app.conf", Mode: 0o644, Link: "setting\n", Flags: []repo.FileFlag{repo.Config}},
		repo.File{Path: "/etc/app.d", Type: repo.Dir, Mode: 0o2775, Group: "adm"},
		repo.File{Path: "/usr/bin/app", Mode: 0o755, Link: "program"},
		repo.File{Path: "/usr/bin/app-link", Type: repo.Symlink, Mode: 0o777, Link: "app"},
		repo.File{Path: "/usr/bin/app2", Mode: 0o755, Link: "program", LinkTo: "/usr/bin/app"},
		repo.File{Path: "/usr/bin/ping", Mode: 0o755, Link: "ping", Xattrs: map[string][]byte{repo.CapabilityXattr: capability}},
		repo.File{Path: "/usr/bin/su", Mode: 0o4755, Link: "su"},
		repo.File{Path: "/usr/lib/app", Type: repo.Dir, Mode: 0o555},
		repo.File{Path: "/usr/lib/app/__pycache__/m.cpython-311.pyc", Mode: 0o644, Link: "code", ModTime: 1700000001},
		repo.File{Path: "/usr/lib/app/empty", Mode: 0o644},
		repo.File{Path: "/usr/lib/app/m.py", Mode: 0o644, Link: "source", ModTime: 1700000000},
		repo.File{Path: "/usr/lib/app/pipe", Type: repo.Fifo, Mode: 0o600},
		repo.File{Path: "/usr/lib/app/same", Mode: 0o755, Link: "program"},
		repo.File{Path: "/var/lib/app/cache", Mode: 0o644, Flags: []repo.FileFlag{repo.Ghost}, Link: "never there"},
		repo.File{Path: "/var/lib/app/game", Mode: 0o4755, User: "games", Link: "not root's"},
	)
}

// small is a package of n files.
func small(t testing.TB, name string, n int) *pack {
	t.Helper()
	var files []repo.File
	for i := range n {
		files = append(files, repo.File{Path: fmt.Sprintf("/opt/%s/%03d", name, i), Mode: 0o644, Link: fmt.Sprint("content ", i)})
	}
	return newPack(t, files...)
}
