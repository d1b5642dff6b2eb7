package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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

// sealing is one run of Seal.
type sealing struct {
	st    *Stage
	plan  *plan
	files int // descriptor of the directory of unpacked files

	progress func(done, total int)
	report   sync.Mutex // serialises progress
	done     int

	stored, shared, objects atomic.Int64
}

// Seal makes objects and the tree of what the unpacker left in FilesDir, and
// puts both on disk (rule N2). Every process that may have written there is
// dead. Each file is hashed through root's own descriptor against the list,
// which the caller has verified (rule N1); nothing else about it is believed.
//
// Files for which private is true become objects that only root can read,
// without capabilities: guests copy them. Ghosts, fifos and devices are not
// made. progress is called once for each file, by one goroutine at a time; it
// may be nil. After an error the caller discards the stage.
func (st *Stage) Seal(ctx context.Context, list *repo.FileList, private func(*repo.File) bool,
	progress func(done, total int)) (Result, error) {
	j := &sealing{st: st, plan: planOf(list, private), progress: progress}
	if err := j.run(ctx); err != nil {
		return Result{}, fmt.Errorf("cannot seal layer: %w", err)
	}
	return Result{Stored: j.stored.Load(), Shared: j.shared.Load(), Objects: int(j.objects.Load())}, nil
}

func (j *sealing) run(ctx context.Context) error {
	if err := j.takeFiles(); err != nil {
		return err
	}
	defer unix.Close(j.files)
	if err := j.makeDirs(); err != nil {
		return err
	}
	if err := j.makeFiles(ctx); err != nil {
		return err
	}
	if err := j.makeSymlinks(); err != nil {
		return err
	}
	if err := j.st.s.disk.RemoveAll(j.st.FilesDir()); err != nil {
		return err
	}
	if err := j.finishDirs(); err != nil {
		return err
	}
	return j.sync(ctx)
}

// takeFiles opens the directory of unpacked files and takes it away from the
// user who filled it, so that nobody can exchange a file for another while
// they are hashed and moved.
func (j *sealing) takeFiles() error {
	fd, err := unix.Open(j.st.FilesDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: j.st.FilesDir(), Err: err}
	}
	if err := unix.Fchown(fd, 0, 0); err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "chown", Path: j.st.FilesDir(), Err: err}
	}
	j.files = fd
	return nil
}

// inTree returns where a path of the list lies in the stage.
func (j *sealing) inTree(p string) string { return j.st.treeDir() + p }

// makeDirs makes the directories writable for root; finishDirs gives them
// their modes and times when nothing is added any more.
func (j *sealing) makeDirs() error {
	for _, dir := range j.plan.dirs {
		if err := j.st.s.disk.Mkdir(j.inTree(dir.path), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (j *sealing) makeFiles(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(max(2, runtime.GOMAXPROCS(0)), 16) {
		g.Go(func() error {
			w := worker{j: j, buffer: make([]byte, 256<<10)}
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(j.plan.units) {
					return nil
				}
				u := &j.plan.units[n]
				if err := w.make(u); err != nil {
					return fmt.Errorf("%s: %w", u.paths[0], err)
				}
				j.tick()
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (j *sealing) tick() {
	if j.progress == nil {
		return
	}
	j.report.Lock()
	defer j.report.Unlock()
	j.done++
	j.progress(j.done, len(j.plan.units))
}

var fixedTimes = []unix.Timespec{{Sec: FixedTime}, {Sec: FixedTime}}

func (j *sealing) makeSymlinks() error {
	for _, link := range j.plan.symlinks {
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
func (j *sealing) finishDirs() error {
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
// that were there before are synced too, for the layer whose Seal made them
// may not have come that far.
func (j *sealing) sync(ctx context.Context) error {
	disk := j.st.s.disk
	if len(j.plan.units)+len(j.plan.dirs) > j.st.s.fewSyncs {
		return disk.SyncFS(j.st.s.dir)
	}
	files := make([]string, len(j.plan.units))
	for i := range j.plan.units {
		files[i] = j.inTree(j.plan.units[i].paths[0])
	}
	if err := syncEach(ctx, files, disk.SyncFile); err != nil {
		return err
	}
	return syncEach(ctx, j.syncDirs(), disk.SyncDir)
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

// syncDirs returns the directories in which Seal changed something.
func (j *sealing) syncDirs() []string {
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
