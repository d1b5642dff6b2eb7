package inventory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// root is the guest's root directory. Paths are resolved in it as a process
// of the guest would, so that no symbolic link leads out of it.
type root struct {
	fd   int
	base string // its path here, "" for "/"
}

func openRoot(dir string) (root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return root{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	r := root{fd: fd}
	base, err := found{fd: fd}.path()
	if err != nil {
		r.close()
		return root{}, err
	}
	r.base = strings.TrimSuffix(base, "/")
	return r, nil
}

func (r root) close() { _ = unix.Close(r.fd) }

// found is a file of the guest, open without the right to read it.
type found struct {
	fd   int
	base string
}

func (f found) close() { _ = unix.Close(f.fd) }

// path returns where the file is in the guest, after all symbolic links.
func (f found) path() (string, error) {
	link := "/proc/self/fd/" + strconv.Itoa(f.fd)
	p, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(p, f.base), nil
}

func (r root) openat(name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(r.fd, strings.TrimLeft(path.Clean(name), "/"), &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// find opens a path of the guest without reading it.
func (r root) find(name string) (found, error) {
	fd, err := r.openat(name, unix.O_PATH)
	if err != nil {
		return found{}, err
	}
	return found{fd: fd, base: r.base}, nil
}

// stamp tells one state of a file from another.
type stamp struct {
	size  int64
	mtime int64 // nanoseconds since the epoch
}

func (f found) stamp() (stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return stamp{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, errors.New("not a regular file")
	}
	return stamp{st.Size, st.Mtim.Nano()}, nil
}

// stampOf returns the stamp of a regular file, the zero stamp if there is
// none.
func (r root) stampOf(name string) stamp {
	f, err := r.find(name)
	if err != nil {
		return stamp{}
	}
	defer f.close()
	s, err := f.stamp()
	if err != nil {
		return stamp{}
	}
	return s
}

// open opens a regular file of the guest for reading. O_NONBLOCK keeps a
// named pipe from holding the process up.
func (r root) open(name string) (*os.File, error) {
	fd, err := r.openat(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	if _, err := (found{fd: fd}).stamp(); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// read returns a file's content if it is no larger than max bytes.
func (r root) read(name string, max int64) ([]byte, error) {
	f, err := r.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > max {
		return nil, fmt.Errorf("cannot read %s: larger than %d bytes", name, max)
	}
	b := make([]byte, st.Size())
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// list returns the names in a directory, sorted.
func (r root) list(name string) ([]string, error) {
	fd, err := r.openat(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}
