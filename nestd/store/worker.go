package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// worker makes units.
type worker struct{ j *filling }

// make makes a unit of its content.
func (w *worker) make(u *unit, content []byte) error {
	_, err := w.publish(u, func(first string) error {
		if err := u.check(sha256.Sum256(content)); err != nil {
			return err
		}
		return w.create(first, u, func(f io.Writer) error {
			_, err := f.Write(content)
			return err
		})
	})
	return err
}

// stream makes a unit of what source has, which is written beside the tree
// first: it takes its time, and others may want to know whether the object is
// there. Nothing is read if it is.
func (w *worker) stream(ctx context.Context, u *unit, source io.Reader) error {
	if known, err := w.publish(u, nil); known || err != nil {
		return err
	}
	staged := filepath.Join(w.j.st.dir, strconv.Itoa(u.index))
	h := sha256.New()
	err := w.create(staged, u, func(f io.Writer) error {
		from := &interruptible{ctx, io.LimitReader(source, u.size)}
		n, err := io.CopyBuffer(io.MultiWriter(f, h), from, make([]byte, largeFile))
		if err == nil && n != u.size {
			err = differs("it ends after %d of %d bytes", n, u.size)
		}
		return err
	})
	if err == nil {
		err = u.check(repo.Digest(h.Sum(nil)))
	}
	if err != nil {
		return err
	}
	disk := w.j.st.s.disk
	if _, err := w.publish(u, func(first string) error { return disk.Rename(staged, first) }); err != nil {
		return err
	}
	return disk.Remove(staged) // it is there if somebody else was faster
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// check compares content with the list.
func (u *unit) check(digest repo.Digest) error {
	if digest != u.content {
		return differs("its content is %s, the file list has %s", digest, u.content)
	}
	return nil
}

// explain says which file an error is about.
func (u *unit) explain(err error) error { return fmt.Errorf("%s: %w", u.paths[0], err) }

// create writes a file with the inode metadata of its object.
func (w *worker) create(path string, u *unit, write func(io.Writer) error) error {
	return w.j.st.s.disk.Create(path, func(f *os.File) error {
		if err := write(f); err != nil {
			return err
		}
		return setInode(int(f.Fd()), &u.attributes)
	})
}

// setInode sets mode, attributes and time: in this order, for writing an
// attribute clears no bit, but a change of owner before would.
func setInode(fd int, a *attributes) error {
	if err := unix.Fchmod(fd, a.mode); err != nil {
		return fmt.Errorf("cannot set mode: %w", err)
	}
	for name, value := range a.xattrs {
		if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
			return fmt.Errorf("cannot set extended attribute %s: %w", name, err)
		}
	}
	times := []unix.Timespec{{Sec: a.mtime}, {Sec: a.mtime}}
	if err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot set time: %w", err)
	}
	return nil
}

// publish gives the unit its names in the tree, all of one inode: that of an
// object which the store has, or the one that write makes under the first
// name, and which becomes an object. If there is no object and write is nil,
// it reports false.
func (w *worker) publish(u *unit, write func(first string) error) (done bool, err error) {
	s, id := w.j.st.s, u.identity()
	shard := &s.shards[id[0]]
	shard.Lock()
	defer shard.Unlock()
	for copies := 0; ; copies++ {
		object := s.objectPath(id, copies)
		found, err := s.inspect(object, &u.attributes)
		if err != nil {
			return false, err
		}
		if found != sound && write == nil {
			return false, nil
		}
		if found == damaged {
			s.log.Error("object is damaged; a new one takes its name", "object", filepath.Base(object))
			if err := s.disk.Remove(object); err != nil {
				return false, err
			}
		}
		if found != sound {
			return true, w.publishNew(object, u, write)
		}
		w.j.st.use(object)
		err = w.linkAll(object, u.paths)
		if err == nil {
			w.j.shared.Add(u.size)
			return true, nil
		}
		if !errors.Is(err, unix.EMLINK) {
			return false, err
		}
		// This inode has no more links to give: the next copy.
	}
}

// publishNew writes a new file into the tree and links it from there to its
// other names and, last, to objects/.
func (w *worker) publishNew(object string, u *unit, write func(first string) error) error {
	first := w.j.inTree(u.paths[0])
	// Before the first step: whatever Discard finds, it can drop.
	w.j.st.use(object)
	if err := write(first); err != nil {
		return err
	}
	if err := w.linkAll(first, u.paths[1:]); err != nil {
		return err
	}
	err := w.j.st.s.disk.Link(first, object)
	if errors.Is(err, fs.ErrNotExist) {
		if err := w.j.st.s.ensureDir(filepath.Dir(object)); err != nil {
			return err
		}
		err = w.j.st.s.disk.Link(first, object)
	}
	if err != nil {
		return err
	}
	w.j.stored.Add(u.size)
	w.j.objects.Add(1)
	return nil
}

// linkAll links from to every path in the tree, or to none.
func (w *worker) linkAll(from string, paths []string) error {
	for n, p := range paths {
		err := w.j.st.s.disk.Link(from, w.j.inTree(p))
		if err == nil {
			continue
		}
		for _, done := range paths[:n] {
			if undo := w.j.st.s.disk.Remove(w.j.inTree(done)); undo != nil {
				return errors.Join(err, undo)
			}
		}
		return err
	}
	return nil
}

// use notes that the stage's tree has a link to object.
func (st *Stage) use(object string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.linked = append(st.linked, object)
}

// objectPath returns where an object, or one of its further copies, is.
func (s *Store) objectPath(id repo.Digest, copies int) string {
	name := id.Hex()
	if copies > 0 {
		name += "." + strconv.Itoa(copies)
	}
	return filepath.Join(s.dir, objectsName, name[:2], name)
}

// condition is what a look at an object's inode says.
type condition int

const (
	absent condition = iota
	sound
	damaged // its metadata is not what its name says
)

// inspect looks at an object without reading its content, which Check does.
func (s *Store) inspect(object string, want *attributes) (condition, error) {
	var stat unix.Stat_t
	err := unix.Lstat(object, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return absent, nil
	}
	if err != nil {
		return absent, &os.PathError{Op: "lstat", Path: object, Err: err}
	}
	if stat.Mode != unix.S_IFREG|want.mode || stat.Uid != 0 || stat.Gid != 0 ||
		stat.Size != want.size || stat.Mtim.Sec != want.mtime || stat.Mtim.Nsec != 0 {
		return damaged, nil
	}
	have, err := xattrs(object)
	if err != nil {
		return absent, err
	}
	if !sameXattrs(have, want.xattrs) {
		return damaged, nil
	}
	return sound, nil
}

func sameXattrs(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		other, ok := b[name]
		if !ok || !bytes.Equal(value, other) {
			return false
		}
	}
	return true
}

// xattrs returns a file's extended attributes, as xattrNames selects them.
func xattrs(path string) (map[string][]byte, error) {
	names, err := xattrNames(func(dest []byte) (int, error) { return unix.Llistxattr(path, dest) })
	if err != nil || len(names) == 0 {
		return nil, err
	}
	values := make(map[string][]byte, len(names))
	for _, name := range names {
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr", Path: path, Err: err}
		}
		values[name] = value[:n]
	}
	return values, nil
}

// xattrNames returns the names of a file's extended attributes, without the
// labels that the host's security module puts on every file.
func xattrNames(list func([]byte) (int, error)) ([]string, error) {
	var small [256]byte
	dest := small[:]
	n, err := list(dest)
	if errors.Is(err, unix.ERANGE) {
		dest = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = list(dest)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list extended attributes: %w", err)
	}
	var names []string
	for name := range strings.SplitSeq(string(dest[:n]), "\x00") {
		label := strings.HasPrefix(name, "security.") && name != repo.CapabilityXattr
		if name != "" && !label {
			names = append(names, name)
		}
	}
	return names, nil
}
