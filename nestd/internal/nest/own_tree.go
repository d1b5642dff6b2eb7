package nest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"stork/nestd/store"
)

// ownTree is what a tree takes on disk, in allocated blocks, and in the page
// cache, each inode once.
type ownTree struct {
	files       int // and everything else that has a name
	disk, cache int64
	partial     bool // it has more than was looked at
}

// ownDepth bounds the directories of a tree that are open at a time.
const ownDepth = 256

// measureTree walks a tree that somebody hostile may write to at the same
// time, one name at a time and from directory to directory, so that it leads
// nowhere else; it opens no device. After so many names, or when ctx ends, it
// says that it has seen a part.
func measureTree(ctx context.Context, dir string, names int) (ownTree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return ownTree{}, nil
	}
	if err != nil {
		return ownTree{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	w := &treeWalk{ctx: ctx, names: names, linked: map[uint64]bool{}}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return ownTree{}, errors.Join(&os.PathError{Op: "fstat", Path: dir, Err: err}, unix.Close(fd))
	}
	w.dev = stat.Dev
	w.tree.disk = stat.Blocks * 512
	if err := w.dir(fd, 0); err != nil {
		return ownTree{}, fmt.Errorf("cannot measure %s: %w", dir, err)
	}
	return w.tree, nil
}

type treeWalk struct {
	ctx    context.Context // of one call
	names  int             // left
	dev    uint64
	linked map[uint64]bool // inodes with several names
	tree   ownTree
}

// dir looks at what a directory has, and closes it.
func (w *treeWalk) dir(fd, depth int) error {
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if w.names == 0 || w.ctx.Err() != nil {
				w.tree.partial = true
				return nil
			}
			w.names--
			if err := w.entry(fd, name, depth); err != nil {
				return err
			}
		}
		if err == io.EOF || gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gone says that an error is only that somebody has changed the tree.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func (w *treeWalk) entry(dir int, name string, depth int) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	if stat.Dev != w.dev {
		return nil // mounted there, and so not in this tree
	}
	kind := stat.Mode & unix.S_IFMT
	if stat.Nlink > 1 && kind != unix.S_IFDIR {
		if w.linked[stat.Ino] {
			return nil
		}
		w.linked[stat.Ino] = true
	}
	w.tree.files++
	w.tree.disk += stat.Blocks * 512
	switch {
	case kind == unix.S_IFREG && stat.Size > 0:
		w.tree.cache += cachedAt(dir, name)
	case kind == unix.S_IFDIR && depth == ownDepth:
		w.tree.partial = true
	case kind == unix.S_IFDIR:
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		if err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		return w.dir(fd, depth+1)
	}
	return nil
}

// cachedAt returns how many bytes of a regular file are in the page cache; 0
// if there is something else by now: to open a device may set it going.
func cachedAt(dir int, name string) int64 {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd) //nolint:errcheck // a path only
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	return store.Cached(f)
}
