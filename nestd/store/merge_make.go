package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stork/repo"
)

// workGroup runs the steps of one merge beside each other, as many at a time
// as there are processors.
type workGroup struct {
	group *errgroup.Group
	ctx   context.Context // ends with the first error
}

func (g *workGroup) start(ctx context.Context) context.Context {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(min(max(2, runtime.GOMAXPROCS(0)), 16))
	g.group, g.ctx = group, inner
	return inner
}

// do starts a step, or says that there is no point in it any more.
func (g *workGroup) do(step func() error) error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	g.group.Go(step)
	return nil
}

func (g *workGroup) wait() error { return g.group.Wait() }

func (s *Store) makeSymlink(target, p string) error {
	if err := s.disk.Symlink(target, p); err != nil {
		return err
	}
	return setTime(p)
}

func (s *Store) makeWhiteout(p string) error {
	if err := s.disk.Whiteout(p); err != nil {
		return err
	}
	return setTime(p)
}

// setTime gives what is no directory the time that everything has.
func setTime(p string) error {
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, fixedTimes, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: p, Err: err}
	}
	return nil
}

// linkFile gives a file of a layer another name in the stage's tree. While
// the layer, or the tree, has its link, nobody drops the object.
func (st *Stage) linkFile(from, to string) error {
	err := st.s.disk.Link(from, to)
	if !errors.Is(err, unix.EMLINK) {
		return err
	}
	// The inode has no more links to give: another copy of the object.
	if err := st.linkCopy(from, to); err != nil {
		return fmt.Errorf("cannot copy %s: %w", from, err)
	}
	return nil
}

func (st *Stage) linkCopy(from, to string) error {
	a, err := readAttributes(from, make([]byte, largeFile))
	if err != nil {
		return err
	}
	id := a.identity()
	shard := &st.s.shards[id[0]]
	shard.Lock()
	defer shard.Unlock()
	for copies := 0; ; copies++ {
		object := st.s.objectPath(id, copies)
		found, err := st.s.inspect(object, a)
		if err != nil {
			return err
		}
		switch found {
		case absent:
			return st.publishCopy(from, to, object, a)
		case damaged:
			continue // whoever unpacks it next says so, and makes it anew
		}
		st.use(object)
		if err := st.s.disk.Link(object, to); !errors.Is(err, unix.EMLINK) {
			return err
		}
	}
}

// publishCopy writes the file once more and makes an object of it.
func (st *Stage) publishCopy(from, to, object string, a *attributes) error {
	st.use(object) // before the first step: whatever Discard finds, it can drop
	source, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	err = st.s.disk.Create(to, func(f *os.File) error {
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(source, a.size)); err != nil {
			return err
		}
		if got := repo.Digest(h.Sum(nil)); got != a.content {
			return fmt.Errorf("it changed to %s while it was read", got)
		}
		return setInode(int(f.Fd()), a)
	})
	if err != nil {
		return err
	}
	err = st.s.disk.Link(to, object)
	if errors.Is(err, fs.ErrNotExist) {
		if err := st.s.ensureDir(filepath.Dir(object)); err != nil {
			return err
		}
		err = st.s.disk.Link(to, object)
	}
	return err
}
