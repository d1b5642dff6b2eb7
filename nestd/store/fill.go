package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stork/repo"
)

// Result says what a layer cost. Bytes are content, each inode once.
type Result struct {
	Stored  int64 // bytes of objects that the store did not have
	Shared  int64 // bytes of objects that it had
	Objects int   // objects that it did not have
}

// ErrContent says that a [Source] yields something else than the list has. Any
// other error of [Stage.Fill] is one of the disk, of the Source, or of ctx.
var ErrContent = errors.New("the package is not what its file list says")

// differs returns an ErrContent.
func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrContent, fmt.Errorf(format, args...))
}

// Source yields the content of a package's files, one after another, in any
// order. Nothing about it is believed.
type Source interface {
	// Next moves to the next file, and returns the place in the file list of
	// its first name and its size in bytes; io.EOF after the last one.
	Next() (index int, size int64, err error)
	io.Reader // the content of that file
}

// filling is one run of Fill.
type filling struct {
	st     *Stage
	plan   *plan
	source Source

	progress func(done, total int64)
	report   sync.Mutex // serialises progress
	done     int64

	stored, shared, objects atomic.Int64
}

// Fill makes objects and the tree of a package; [Stage.Sync] puts both on disk
// (rule N2). The caller has verified the list; each content is hashed against it
// before an object has it (rule N1). Of content that the store has already
// nothing is written.
//
// Files for which private is true become objects that only root can read,
// without capabilities: guests copy them. Ghosts, fifos and devices are not
// made. progress is called with bytes of content, by one goroutine at a time;
// it may be nil. After an error, which may be [ErrContent], the caller discards
// the stage.
func (st *Stage) Fill(ctx context.Context, list *repo.FileList, private func(*repo.File) bool, source Source,
	progress func(done, total int64)) (Result, error) {
	j := &filling{st: st, plan: planOf(list, private), source: source, progress: progress}
	if err := j.run(ctx); err != nil {
		return Result{}, fmt.Errorf("cannot fill layer: %w", err)
	}
	st.unsynced = j.sync
	return Result{Stored: j.stored.Load(), Shared: j.shared.Load(), Objects: int(j.objects.Load())}, nil
}

func (j *filling) run(ctx context.Context) error {
	if err := j.makeDirs(ctx); err != nil {
		return err
	}
	if err := j.makeFiles(ctx); err != nil {
		return err
	}
	if err := j.makeSymlinks(ctx); err != nil {
		return err
	}
	return j.finishDirs()
}

// Sync puts what Fill made on disk. It is a call of its own since it waits for
// the disk only: what fills other stages may go on meanwhile.
func (st *Stage) Sync(ctx context.Context) error {
	if st.unsynced == nil {
		return nil
	}
	if err := st.unsynced(ctx); err != nil {
		return fmt.Errorf("cannot make layer durable: %w", err)
	}
	st.unsynced = nil
	return nil
}

// inTree returns where a path of the list lies in the stage.
func (j *filling) inTree(p string) string { return j.st.treeDir() + p }

// makeDirs makes the directories writable for root; finishDirs gives them
// their modes and times when nothing is added any more.
func (j *filling) makeDirs(ctx context.Context) error {
	for _, dir := range j.plan.dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := j.st.s.disk.Mkdir(j.inTree(dir.path), 0o700); err != nil {
			return err
		}
	}
	return nil
}

var fixedTimes = []unix.Timespec{{Sec: FixedTime}, {Sec: FixedTime}}

func (j *filling) makeSymlinks(ctx context.Context) error {
	for _, link := range j.plan.symlinks {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := j.inTree(link.Path)
		if err := j.st.s.disk.Symlink(link.Link, p); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, fixedTimes, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "utimensat", Path: p, Err: err}
		}
	}
	return nil
}

// finishDirs sets modes and times, of the deepest directories first, since a
// change in a directory changes its time.
func (j *filling) finishDirs() error {
	for i := len(j.plan.dirs) - 1; i >= 0; i-- {
		dir := &j.plan.dirs[i]
		if err := setDir(j.inTree(dir.path), dir.mode); err != nil {
			return err
		}
	}
	return setDir(j.st.treeDir(), 0o755)
}

func setDir(p string, mode uint32) error {
	if err := unix.Chmod(p, mode); err != nil {
		return &os.PathError{Op: "chmod", Path: p, Err: err}
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, fixedTimes, 0); err != nil {
		return &os.PathError{Op: "utimensat", Path: p, Err: err}
	}
	return nil
}

// defaultFewSyncs is up to how many inodes are synced one by one. Beyond, one
// syncfs is cheaper, although it waits for everybody's dirty data.
const defaultFewSyncs = 128

// sync puts the layer on disk: content, tree, and the objects' names. Objects
// that were there before are synced too, for the layer whose Fill made them
// may not have come that far.
func (j *filling) sync(ctx context.Context) error {
	disk, dirs := j.st.s.disk, j.syncDirs()
	if len(j.plan.units)+len(dirs) > j.st.s.fewSyncs {
		return j.st.s.syncFS(ctx)
	}
	files := make([]string, len(j.plan.units))
	for i := range j.plan.units {
		files[i] = j.inTree(j.plan.units[i].paths[0])
	}
	if err := syncEach(ctx, files, disk.SyncFile); err != nil {
		return err
	}
	return syncEach(ctx, dirs, disk.SyncDir)
}

// syncEach syncs paths at the same time, so that the file system can put many
// of them into one commit of its journal.
func syncEach(ctx context.Context, paths []string, sync func(string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, p := range paths {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return sync(p)
		})
	}
	return g.Wait()
}

// syncDirs returns the directories in which Fill changed something.
func (j *filling) syncDirs() []string {
	dirs := []string{j.st.dir, j.st.treeDir(), filepath.Join(j.st.s.dir, objectsName)}
	for _, dir := range j.plan.dirs {
		dirs = append(dirs, j.inTree(dir.path))
	}
	seen := map[string]bool{}
	for _, object := range j.st.linked {
		if dir := filepath.Dir(object); !seen[dir] {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
