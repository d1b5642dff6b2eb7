package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// Steps that a fault may hit beside those of package durable.
const (
	StepMount   durable.Step = "mount"
	StepUnmount durable.Step = "unmount"
	StepPlace   durable.Step = "place" // an empty file to mount on, or an unsynced new file
)

// Root is a guest's root directory. Every path is resolved below it, and no
// symlink leads out of it (openat2(2), RESOLVE_IN_ROOT). Changes go through
// descriptors of the parent directory, which is reached without following any
// symlink, so a user of the guest who swaps directories gains nothing.
//
// A Root is used by one goroutine at a time.
type Root struct {
	dir  *os.File
	real string // what the kernel calls it; empty for "/"
	disk durable.Disk

	mounter Mounter // nil: the kernel
	places  bool    // mounter makes new mounts too
	holders []int   // processes, see letGo
}

// OpenRoot opens the directory that is the guest's root: "/" within a guest.
// Disk carries the faults of tests; steps of mounts go through it too.
func OpenRoot(dir string, disk durable.Disk) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the guest's root %s: %w", dir, err)
	}
	r := &Root{dir: os.NewFile(uintptr(fd), dir), disk: disk}
	real, err := os.Readlink(fdPath(fd))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot find the guest's root (is /proc mounted?): %w", err), r.Close())
	}
	r.real = strings.TrimSuffix(real, "/")
	return r, nil
}

// Close releases the root.
func (r *Root) Close() error {
	r.reap()
	return r.dir.Close()
}

// fdPath names an open file so that path-based calls can act on it.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openBelow opens name below dir. The kernel asks to try again when
// something on the way was moved at that moment.
func openBelow(dir *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), fdPath(fd)), nil
		}
		if (err != unix.EAGAIN && err != unix.EINTR) || try > 100 {
			return nil, &fs.PathError{Op: "open", Path: "/" + strings.TrimPrefix(name, "/"), Err: err}
		}
	}
}

// follow opens p for reference only, with symlinks followed inside the root.
func (r *Root) follow(p string, flags int) (*os.File, error) {
	return openBelow(r.dir, p, unix.O_PATH|flags, unix.RESOLVE_IN_ROOT)
}

// plain opens p, of which no element may be a symlink.
func (r *Root) plain(p string, flags int) (*os.File, error) {
	return openBelow(r.dir, p, flags|unix.O_NOFOLLOW, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
}

// nameOf returns the path in the guest of an open directory.
func (r *Root) nameOf(f *os.File) (string, error) {
	real, err := os.Readlink(fdPath(int(f.Fd())))
	if err != nil {
		return "", err
	}
	inside, ok := strings.CutPrefix(real, r.real)
	if !ok || inside != "" && inside[0] != '/' {
		return "", fmt.Errorf("%s lies outside of the guest's root", real)
	}
	if inside == "" {
		inside = "/"
	}
	return inside, nil
}

// place is a name in an open directory.
type place struct {
	dir  *os.File
	name string
}

// path names the place for path-based calls.
func (p place) path() string { return fdPath(int(p.dir.Fd())) + "/" + p.name }

// stat is lstat of the place, through mounts on it.
func (p place) stat() (info, error) { return statAt(int(p.dir.Fd()), p.name) }

// sibling is another name in the same directory.
func (p place) sibling(name string) place { return place{p.dir, name} }

// info is what statx(2) tells of a file.
type info struct{ unix.Statx_t }

// statAt is lstat; an empty name is the descriptor itself.
func statAt(fd int, name string) (info, error) {
	var i info
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS, &i.Statx_t); err != nil {
		return info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return i, nil
}

func (i info) kind() uint16        { return i.Mode & unix.S_IFMT }
func (i info) isDir() bool         { return i.kind() == unix.S_IFDIR }
func (i info) isLink() bool        { return i.kind() == unix.S_IFLNK }
func (i info) isRegular() bool     { return i.kind() == unix.S_IFREG }
func (i info) permissions() uint32 { return uint32(i.Mode) & 0o7777 }

// isMounted reports whether a mount begins here.
func (i info) isMounted() bool { return i.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 }

// same reports whether both are one inode.
func (i info) same(o info) bool {
	return i.Ino == o.Ino && i.Dev_major == o.Dev_major && i.Dev_minor == o.Dev_minor
}

// isPlaceholder reports whether it is the empty file that mounts lie on.
func (i info) isPlaceholder() bool { return i.isRegular() && i.Size == 0 && i.permissions() == 0 }

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// dirs keeps directories open while an element is applied. A mount of a
// directory makes the descriptors below it stale: forget then.
type dirs struct {
	root *Root
	open map[string]*os.File
}

// maxOpenDirs bounds how many descriptors an apply holds.
const maxOpenDirs = 128

func newDirs(root *Root) *dirs { return &dirs{root: root, open: map[string]*os.File{}} }

// at opens the parent directory of p.
func (d *dirs) at(p string) (place, error) {
	parent, name := path.Split(p)
	parent = path.Clean(parent)
	if f := d.open[parent]; f != nil {
		return place{f, name}, nil
	}
	if len(d.open) >= maxOpenDirs {
		d.forget()
	}
	f, err := d.root.plain(parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return place{}, err
	}
	d.open[parent] = f
	return place{f, name}, nil
}

// forget closes all directories.
func (d *dirs) forget() {
	for _, f := range d.open {
		f.Close() // only a reference: nothing can fail to be written
	}
	clear(d.open)
}

// step runs one change that package durable has no method for.
func (r *Root) step(step durable.Step, p string, act func() error) error {
	if r.disk.Fault == nil {
		return act()
	}
	before, after := r.disk.Fault(step, p)
	if before != nil {
		return &fs.PathError{Op: string(step), Path: p, Err: before}
	}
	if err := act(); err != nil {
		return err
	}
	if after != nil {
		return &fs.PathError{Op: string(step), Path: p, Err: after}
	}
	return nil
}
