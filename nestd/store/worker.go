package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// worker makes units, one after another.
type worker struct {
	j      *sealing
	buffer []byte
}

func (w *worker) make(u *unit) error {
	name := strconv.Itoa(u.index)
	if err := w.adopt(name, u); err != nil {
		return err
	}
	return w.publish(filepath.Join(w.j.st.FilesDir(), name), u)
}

// adopt makes an unpacked file root's, checks it and gives it the inode
// metadata of its object, all through one descriptor.
func (w *worker) adopt(name string, u *unit) error {
	fd, err := unix.Openat(w.j.files, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open unpacked file %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := checkInode(fd, u.size); err != nil {
		return err
	}
	if err := unix.Fchown(fd, 0, 0); err != nil {
		return fmt.Errorf("cannot take ownership: %w", err)
	}
	digest, err := w.hash(f, u.size)
	if err != nil {
		return err
	}
	if digest != u.content {
		return fmt.Errorf("unpacked content is %s, the file list has %s", digest, u.content)
	}
	return setInode(fd, &u.attributes)
}

// checkInode refuses everything but a plain file with that size and one name.
// Extended attributes, among them access control lists, would outlive the
// change of owner.
func checkInode(fd int, size int64) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("cannot stat unpacked file: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 1 {
		return errors.New("unpacked file is not a regular file with one name")
	}
	if stat.Size != size {
		return fmt.Errorf("unpacked file has %d bytes, the file list has %d", stat.Size, size)
	}
	names, err := xattrNames(func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) })
	if err != nil {
		return err
	}
	if len(names) != 0 {
		return fmt.Errorf("unpacked file has extended attributes %q", names)
	}
	return nil
}

// hash reads at most one byte more than size.
func (w *worker) hash(f io.Reader, size int64) (repo.Digest, error) {
	h := sha256.New()
	n, err := copyBuffer(h, io.LimitReader(f, size+1), w.buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, want %d", n, size)
	}
	if err != nil {
		return repo.Digest{}, fmt.Errorf("cannot read unpacked file: %w", err)
	}
	return repo.Digest(h.Sum(nil)), nil
}

// copyBuffer is io.CopyBuffer without the short cuts that ignore the buffer.
func copyBuffer(h hash.Hash, r io.Reader, buffer []byte) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, buffer)
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
// object which the store has, or the staged one, which becomes an object.
func (w *worker) publish(staged string, u *unit) error {
	s, id := w.j.st.s, u.identity()
	shard := &s.shards[id[0]]
	shard.Lock()
	defer shard.Unlock()
	for copies := 0; ; copies++ {
		object := s.objectPath(id, copies)
		found, err := s.inspect(object, &u.attributes)
		if err != nil {
			return err
		}
		if found == damaged {
			s.log.Error("object is damaged; a new one takes its name", "object", filepath.Base(object))
			if err := s.disk.Remove(object); err != nil {
				return err
			}
		}
		if found != sound {
			return w.publishNew(staged, object, u)
		}
		w.j.st.use(object)
		err = w.linkAll(object, u.paths)
		if err == nil {
			w.j.shared.Add(u.size)
			return s.disk.Remove(staged)
		}
		if !errors.Is(err, unix.EMLINK) {
			return err
		}
		// This inode has no more links to give: the next copy.
	}
}

// publishNew moves the staged file into the tree and links it from there to
// its other names and, last, to objects/.
func (w *worker) publishNew(staged, object string, u *unit) error {
	first := w.j.inTree(u.paths[0])
	// Before the first step: whatever Discard finds, it can drop.
	w.j.st.use(object)
	if err := w.j.st.s.disk.Rename(staged, first); err != nil {
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
