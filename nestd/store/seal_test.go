package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// TestHostileFiles leaves in the staging directory what an exploited unpacker
// might. Seal must refuse, and Discard leave nothing.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		harm func(file string) error
		want string
	}{
		{"other content", func(f string) error { return os.WriteFile(f, []byte("CONTENT 1"), 0o600) }, "the file list has sha256:"},
		{"longer", func(f string) error { return os.WriteFile(f, []byte("content 1 and more"), 0o600) }, "has 18 bytes"},
		{"shorter", func(f string) error { return os.Truncate(f, 3) }, "has 3 bytes"},
		{"missing", os.Remove, "no such file"},
		{"symlink", func(f string) error {
			return errors.Join(os.Rename(f, f+"x"), os.Symlink(f+"x", f))
		}, "too many levels of symbolic links"},
		{"directory", func(f string) error { return errors.Join(os.Remove(f), os.Mkdir(f, 0o700)) }, "not a regular file"},
		{"fifo", func(f string) error { return errors.Join(os.Remove(f), unix.Mkfifo(f, 0o600)) }, "not a regular file"},
		{"second name", func(f string) error { return os.Link(f, f+"x") }, "not a regular file with one name"},
		{"device", func(f string) error {
			return errors.Join(os.Remove(f), unix.Mknod(f, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		}, "not a regular file"},
		{"attribute", func(f string) error { return unix.Setxattr(f, "user.x", []byte("y"), 0) }, "extended attributes"},
		{"capability", func(f string) error { return unix.Setxattr(f, repo.CapabilityXattr, capability, 0) }, "extended attributes"},
		{"access list", func(f string) error {
			// user::rw- user:1000:rwx group::--- mask::rwx other::---
			acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0xe8, 3, 0, 0,
				4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
			return unix.Setxattr(f, "system.posix_acl_access", acl, 0)
		}, "extended attributes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, p := opened(t), small(t, "p", 3)
			st, err := s.Stage(os.Geteuid(), os.Getegid())
			if err != nil {
				t.Fatal(err)
			}
			p.unpack(t, st.FilesDir())
			if err := tt.harm(filepath.Join(st.FilesDir(), "1")); err != nil {
				t.Fatal(err)
			}
			_, err = st.Seal(t.Context(), &p.list, isPrivate, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("seal: %v, want an error with %q", err, tt.want)
			}
			if err := st.Discard(); err != nil {
				t.Fatal(err)
			}
			mustBeSound(t, s)
		})
	}
}

// TestExtraFiles says that what the list does not name is thrown away.
func TestExtraFiles(t *testing.T) {
	t.Parallel()
	s, p := opened(t), small(t, "p", 3)
	st, err := s.Stage(os.Geteuid(), os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	p.unpack(t, st.FilesDir())
	if err := os.MkdirAll(filepath.Join(st.FilesDir(), "99", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(st.FilesDir(), "98")); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Seal(t.Context(), &p.list, isPrivate, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Place(t.Context(), p.id); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, p)
}

// TestFilesOfAnotherUser seals what the unpacker's user wrote.
func TestFilesOfAnotherUser(t *testing.T) {
	t.Parallel()
	s, p := opened(t), sample(t)
	const nobody = 65534
	st, err := s.Stage(nobody, nobody)
	if err != nil {
		t.Fatal(err)
	}
	p.unpack(t, st.FilesDir())
	for i := range p.list.Files {
		err := os.Lchown(filepath.Join(st.FilesDir(), strconv.Itoa(i)), nobody, nobody)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(st.FilesDir(), &stat); err != nil || stat.Uid != nobody || stat.Gid != nobody {
		t.Errorf("owner of the directory is %d:%d (%v), want %d", stat.Uid, stat.Gid, err, nobody)
	}
	if _, err := st.Seal(t.Context(), &p.list, isPrivate, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Place(t.Context(), p.id); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, p)
}

func TestCancelledSeal(t *testing.T) {
	t.Parallel()
	s, p := opened(t), small(t, "p", 50)
	st, err := s.Stage(os.Geteuid(), os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	p.unpack(t, st.FilesDir())
	ctx, cancel := context.WithCancel(t.Context())
	_, err = st.Seal(ctx, &p.list, isPrivate, func(done, _ int) {
		if done == 10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("seal: %v, want %v", err, context.Canceled)
	}
	if err := st.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s)
}

// TestConcurrentSeals lets packages with the same files come and go at the
// same time.
func TestConcurrentSeals(t *testing.T) {
	t.Parallel()
	s := opened(t)
	var packs []*pack
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		packs = append(packs, small(t, name, 40))
	}
	each(packs, func(p *pack) { install(t, s, p) })
	mustBeSound(t, s, packs...)
	if objects, _ := s.CheckObjects(t.Context()); objects != 40 {
		t.Errorf("%d objects, want 40", objects)
	}
	for range 3 {
		each(packs, func(p *pack) {
			if err := s.Remove(t.Context(), p.id); err != nil {
				t.Error(err)
			}
			st, _ := seal(t, s, p)
			if err := st.Discard(); err != nil {
				t.Error(err)
			}
			install(t, s, p)
		})
		mustBeSound(t, s, packs...)
	}
	each(packs, func(p *pack) {
		if err := s.Remove(t.Context(), p.id); err != nil {
			t.Error(err)
		}
	})
	mustBeSound(t, s)
}

// each runs work for all packages at once.
func each(packs []*pack, work func(*pack)) {
	var wait sync.WaitGroup
	for _, p := range packs {
		wait.Go(func() { work(p) })
	}
	wait.Wait()
}

// TestDamagedObject says that an object which is not what its name says is
// not given to another package.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	s := opened(t)
	first := newPack(t, repo.File{Path: "/a", Mode: 0o644, Link: "x"})
	second := newPack(t, repo.File{Path: "/b", Mode: 0o644, Link: "x"})
	install(t, s, first)
	layer, _ := s.Layer(first.id)
	if err := os.Chmod(layer+"/a", 0o666); err != nil {
		t.Fatal(err)
	}
	install(t, s, second)
	if found := s.Check(t.Context(), second.id, &second.list, isPrivate); len(found) != 0 {
		t.Errorf("second layer: %q", found)
	}
	if found := s.Check(t.Context(), first.id, &first.list, isPrivate); len(found) != 2 {
		t.Errorf("first layer: %q, want wrong mode and not its object", found)
	}
}
