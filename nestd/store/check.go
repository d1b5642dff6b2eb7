package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stork/repo"
)

// problems collects what checks find; its methods may be called from several
// goroutines.
type problems struct {
	mu    sync.Mutex
	found []string
}

func (p *problems) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, fmt.Sprintf(format, args...))
}

func (p *problems) sorted() []string {
	slices.Sort(p.found)
	return p.found
}

// Check compares a placed layer with the list and the private function that
// it was filled with: every path, its type, mode, owner, time, attributes,
// links and content, that each file is its object's inode, and that nothing
// else is there. It returns one sentence for each thing that is wrong.
func (s *Store) Check(ctx context.Context, id repo.Digest, list *repo.FileList, private func(*repo.File) bool) []string {
	c := &layerCheck{s: s, root: s.layerPath(id), plan: planOf(list, private), want: map[string]bool{}}
	c.run(ctx)
	found := c.sorted()
	for i := range found {
		found[i] = "layer " + id.Short() + ": " + found[i]
	}
	return found
}

type layerCheck struct {
	problems
	s    *Store
	root string
	plan *plan
	want map[string]bool // every path that belongs there
}

func (c *layerCheck) run(ctx context.Context) {
	c.dir("/", 0o755)
	for _, dir := range c.plan.dirs {
		c.want[dir.path] = true
		c.dir(dir.path, dir.mode)
	}
	for _, link := range c.plan.symlinks {
		c.want[link.Path] = true
		c.symlink(link)
	}
	for i := range c.plan.units {
		for _, p := range c.plan.units[i].paths {
			c.want[p] = true
		}
	}
	err := inParallel(ctx, len(c.plan.units), func(buffer []byte, n int) { c.unit(buffer, &c.plan.units[n]) })
	if err != nil {
		c.add("check was interrupted: %v", err)
	}
	c.extra()
}

// inode reports what every inode of the tree must have.
func (c *layerCheck) inode(p string, mode uint32, mtime int64) (unix.Stat_t, bool) {
	var stat unix.Stat_t
	if err := unix.Lstat(c.root+p, &stat); err != nil {
		c.add("%s: %v", p, err)
		return stat, false
	}
	if stat.Mode&unix.S_IFMT != mode&unix.S_IFMT {
		c.add("%s: is of another type", p)
		return stat, false
	}
	if stat.Mode != mode {
		c.add("%s: mode is %04o, want %04o", p, stat.Mode&0o7777, mode&0o7777)
	}
	if stat.Uid != 0 || stat.Gid != 0 {
		c.add("%s: owner is %d:%d, want 0:0", p, stat.Uid, stat.Gid)
	}
	if stat.Mtim.Sec != mtime || stat.Mtim.Nsec != 0 {
		c.add("%s: time is %d.%09d, want %d", p, stat.Mtim.Sec, stat.Mtim.Nsec, mtime)
	}
	return stat, true
}

func (c *layerCheck) dir(p string, mode uint32) { c.inode(p, unix.S_IFDIR|mode, FixedTime) }

func (c *layerCheck) symlink(f *repo.File) {
	if _, ok := c.inode(f.Path, unix.S_IFLNK|0o777, FixedTime); !ok {
		return
	}
	if target, err := os.Readlink(c.root + f.Path); err != nil || target != f.Link {
		c.add("%s: target is %q, want %q", f.Path, target, f.Link)
	}
}

func (c *layerCheck) unit(buffer []byte, u *unit) {
	first, ok := c.inode(u.paths[0], unix.S_IFREG|u.mode, u.mtime)
	if !ok {
		return
	}
	for _, p := range u.paths[1:] {
		if other, ok := c.inode(p, unix.S_IFREG|u.mode, u.mtime); ok && other.Ino != first.Ino {
			c.add("%s: is no hard link of %s", p, u.paths[0])
		}
	}
	have, err := readAttributes(c.root+u.paths[0], buffer)
	switch {
	case err != nil:
		c.add("%s: %v", u.paths[0], err)
		return
	case have.content != u.content:
		c.add("%s: content is %s, want %s", u.paths[0], have.content, u.content)
	case !sameXattrs(have.xattrs, u.xattrs):
		c.add("%s: extended attributes differ", u.paths[0])
	}
	if !c.s.isObject(u.identity(), first.Ino) {
		c.add("%s: is not its object", u.paths[0])
	}
}

// isObject reports whether one of the copies of an object is that inode.
func (s *Store) isObject(id repo.Digest, ino uint64) bool {
	for copies := 0; ; copies++ {
		var stat unix.Stat_t
		if err := unix.Lstat(s.objectPath(id, copies), &stat); err != nil {
			return false
		}
		if stat.Ino == ino {
			return true
		}
	}
}

func (c *layerCheck) extra() {
	err := filepath.WalkDir(c.root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p = strings.TrimPrefix(p, c.root); p != "" && !c.want[p] {
			c.add("%s: does not belong there", p)
		}
		return nil
	})
	if err != nil {
		c.add("%v", err)
	}
}

// CheckObjects holds every object to its name, and reports those that no
// layer has. It returns how many there are. Layers that come or go meanwhile
// may be reported.
func (s *Store) CheckObjects(ctx context.Context) (objects int, found []string) {
	var p problems
	paths, err := s.objects()
	if err != nil {
		p.add("%v", err)
	}
	err = inParallel(ctx, len(paths), func(buffer []byte, n int) {
		if err := checkObject(paths[n], buffer); err != nil {
			p.add("object %s: %v", filepath.Base(paths[n]), err)
		}
	})
	if err != nil {
		p.add("check was interrupted: %v", err)
	}
	return len(paths), p.sorted()
}

// objects returns the paths of all objects.
func (s *Store) objects() ([]string, error) {
	paths, err := s.children(objectsName)
	if err != nil {
		return nil, fmt.Errorf("cannot list objects: %w", err)
	}
	return paths, nil
}

func checkObject(object string, buffer []byte) error {
	name, _, _ := strings.Cut(path.Base(object), ".")
	id, err := repo.ParseHex(name)
	if err != nil {
		return errors.New("is named like no object")
	}
	var stat unix.Stat_t
	if err := unix.Lstat(object, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Uid != 0 || stat.Gid != 0 || stat.Mtim.Nsec != 0 {
		return errors.New("is not as an object is made: type, owner or time differ")
	}
	a, err := readAttributes(object, buffer)
	if err != nil {
		return err
	}
	if got := a.identity(); got != id {
		return fmt.Errorf("content or metadata is not what its name says: they make %s", got.Hex())
	}
	if stat.Nlink < 2 {
		return errors.New("no layer has it")
	}
	return nil
}

// readAttributes reads a regular file and everything of its inode that is
// part of an object's identity.
func readAttributes(file string, buffer []byte) (*attributes, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	content, err := digestOf(f, stat.Size, buffer)
	if err != nil {
		return nil, err
	}
	have, err := xattrs(file)
	if err != nil {
		return nil, err
	}
	return &attributes{mode: stat.Mode & 0o7777, mtime: stat.Mtim.Sec, xattrs: have, content: content, size: stat.Size}, nil
}

// digestOf reads at most one byte more than size.
func digestOf(f io.Reader, size int64, buffer []byte) (repo.Digest, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{io.LimitReader(f, size+1)}, buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, want %d", n, size)
	}
	return repo.Digest(h.Sum(nil)), err
}

// inParallel calls work for 0 to n-1, with a buffer for reading, until ctx
// ends.
func inParallel(ctx context.Context, n int, work func(buffer []byte, n int)) error {
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			buffer := make([]byte, 256<<10)
			for i := range next {
				work(buffer, i)
			}
			return nil
		})
	}
	defer g.Wait() //nolint:errcheck // the workers return nil
	defer close(next)
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
