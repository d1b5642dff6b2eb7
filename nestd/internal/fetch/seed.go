package fetch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// seeds are the files that this nest keeps for others, by digest, within a
// budget. The directory is the daemon's: the child can read what lies there,
// and neither add nor remove. It is scratch like the spool: nothing of it is
// synced, and whoever gets something from it checks its digest.
type seeds struct {
	dir    *os.File
	budget int64

	mu    sync.Mutex
	files map[string]seed
	total int64
}

type seed struct {
	size int64
	kept time.Time
}

// openSeeds makes the directory, and forgets what is no file of it.
func openSeeds(path string, budget int64) (*seeds, error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &seeds{dir: dir, budget: budget, files: map[string]seed{}}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if _, err := repo.ParseHex(entry.Name()); err != nil || !info.Mode().IsRegular() {
			if err := os.RemoveAll(path + "/" + entry.Name()); err != nil {
				return nil, errors.Join(err, dir.Close())
			}
			continue
		}
		s.files[entry.Name()] = seed{info.Size(), info.ModTime()}
		s.total += info.Size()
	}
	if err := s.shrink(0); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return s, nil
}

// wants reports whether a file of that size fits the budget, without driving
// out everything else.
func (s *seeds) wants(size int64) bool { return s != nil && size <= s.budget/4 }

// adopt takes a verified blob out of the spool. Whoever can write to the spool
// may have put something else in its place since: then it is removed. That it
// may still have the file open, and write to it, harms those only who ask it
// for the file, and they check.
func (s *seeds) adopt(spool *os.File, o repo.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shrink(o.Size); err != nil {
		return err
	}
	name := o.Digest.Hex()
	if err := unix.Renameat(int(spool.Fd()), name, int(s.dir.Fd()), name); err != nil {
		return &os.PathError{Op: "rename", Path: name, Err: err}
	}
	if err := s.own(name, o.Size); err != nil {
		return errors.Join(err, s.remove(name))
	}
	s.note(name, o.Size)
	return nil
}

// own makes a file that was renamed into the directory the daemon's.
func (s *seeds) own(name string, size int64) error {
	fd, err := unix.Openat(int(s.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		return errors.New("the fetcher left something else")
	}
	return errors.Join(file.Chown(os.Geteuid(), os.Getegid()), file.Chmod(0o444), touch(s.dir, name))
}

// touch makes a file the newest, which is removed last.
func touch(dir *os.File, name string) error {
	now := unix.NsecToTimespec(time.Now().UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW)
}

// add writes a document. One that is there already is left alone.
func (s *seeds) add(d repo.Digest, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := d.Hex()
	if _, ok := s.files[name]; ok {
		return nil
	}
	if err := s.shrink(int64(len(text))); err != nil {
		return err
	}
	fd, err := unix.Openat(int(s.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, s.remove(name))
	}
	s.note(name, int64(len(text)))
	return nil
}

// note counts a file. s.mu is held.
func (s *seeds) note(name string, size int64) {
	s.total += size - s.files[name].size
	s.files[name] = seed{size, time.Now()}
}

// shrink makes room for size more bytes: what was kept first goes first, and
// somewhat more than needed, so that it need not be done each time. s.mu is
// held, or nobody else has s.
func (s *seeds) shrink(size int64) error {
	if s.total+size <= s.budget {
		return nil
	}
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(s.files[a].kept.Compare(s.files[b].kept), cmp.Compare(a, b))
	})
	for _, name := range names {
		if s.total+size <= s.budget-s.budget/16 {
			break
		}
		if err := s.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// remove forgets a file. s.mu is held, or nobody else has s.
func (s *seeds) remove(name string) error {
	err := unix.Unlinkat(int(s.dir.Fd()), name, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	s.total -= s.files[name].size
	delete(s.files, name)
	return nil
}

// Keep takes a blob that the caller has verified from the spool, for others to
// have it, or discards it, if this nest keeps none or it is too large.
func (f *Fetcher) Keep(o repo.Object) error {
	if !f.seeds.wants(o.Size) {
		return f.Discard(o)
	}
	if err := f.seeds.adopt(f.spool, o); err != nil {
		return errors.Join(fmt.Errorf("cannot keep blob %s: %w", o.Digest, err), f.Discard(o))
	}
	return f.keepInfo(o)
}

// KeepDocument keeps a verified document for others, if this nest does that.
func (f *Fetcher) KeepDocument(d repo.Digest, text []byte) error {
	if !f.seeds.wants(int64(len(text))) {
		return nil
	}
	if err := f.seeds.add(d, text); err != nil {
		return fmt.Errorf("cannot keep document %s: %w", d, err)
	}
	return nil
}
