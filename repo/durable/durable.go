// Package durable changes files so that a crash leaves the old state or the
// new one. It is the only way in which Stork writes what it must not lose,
// and the seam at which tests inject faults.
//
// Every method of [Disk] is one step of the ordering rules in
// docs/ordering.md. A method that returns nil has reached the disk, but for
// those whose comment says that a later [Disk.SyncDir] or [Disk.SyncFS] makes
// it durable.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Step is one kind of system call that changes the disk.
type Step string

// The steps, as a [Fault] sees them.
const (
	StepWrite   Step = "write"
	StepSync    Step = "sync"
	StepSyncDir Step = "syncdir"
	StepSyncFS  Step = "syncfs"
	StepRename  Step = "rename"
	StepLink    Step = "link"
	StepSymlink Step = "symlink"
	StepMkdir   Step = "mkdir"
	StepRemove  Step = "remove"
)

// Fault decides, before every step, whether it fails: with before, nothing
// is done; with after, it is done and the error is returned all the same, as
// when the answer of a disk is lost. Both nil: the step runs undisturbed.
type Fault func(step Step, path string) (before, after error)

// Disk writes to the file system. The zero value is ready for use; its
// methods may be called from several goroutines if Fault may.
type Disk struct {
	Fault Fault
}

func (d Disk) do(step Step, path string, act func() error) error {
	if d.Fault == nil {
		return act()
	}
	before, after := d.Fault(step, path)
	if before != nil {
		return &fs.PathError{Op: string(step), Path: path, Err: before}
	}
	if err := act(); err != nil {
		return err
	}
	if after != nil {
		return &fs.PathError{Op: string(step), Path: path, Err: after}
	}
	return nil
}

// WriteFile replaces path by a file with that content: temporary file in the
// same directory, write, fsync, rename, fsync of the directory. After a crash
// path has its old content or the new, and perhaps a temporary file lies
// beside it, whose name starts with [TempPrefix].
func (d Disk) WriteFile(path string, data []byte, perm fs.FileMode) error {
	temp, err := d.makeTemp(path, data, perm, true)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := d.Rename(temp, path); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	return d.SyncDir(filepath.Dir(path))
}

// WriteCache replaces path as WriteFile does, but nothing is made durable:
// after a crash path may have its old content, the new, or part of it. It is
// for what its reader can tell from damage, and make again.
func (d Disk) WriteCache(path string, data []byte, perm fs.FileMode) error {
	temp, err := d.makeTemp(path, data, perm, false)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := d.Rename(temp, path); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	return nil
}

// TempPrefix starts the names of temporary files that a crash may leave.
const TempPrefix = ".tmp-"

func (d Disk) makeTemp(path string, data []byte, perm fs.FileMode, sync bool) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+"*")
	if err != nil {
		return "", err
	}
	err = d.do(StepWrite, path, func() error { _, err := f.Write(data); return err })
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil && sync {
		err = d.do(StepSync, path, f.Sync)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", errors.Join(err, removeIfThere(f.Name()))
	}
	return f.Name(), nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename moves a file or directory within one file system, over an existing
// file. [Disk.SyncDir] on both directories makes it durable.
func (d Disk) Rename(from, to string) error {
	return d.do(StepRename, to, func() error { return os.Rename(from, to) })
}

// Link makes a hard link; SyncDir or SyncFS makes it durable.
func (d Disk) Link(from, to string) error {
	return d.do(StepLink, to, func() error { return os.Link(from, to) })
}

// Symlink makes a symbolic link; SyncDir or SyncFS makes it durable.
func (d Disk) Symlink(target, path string) error {
	return d.do(StepSymlink, path, func() error { return os.Symlink(target, path) })
}

// Mkdir makes a directory with exactly that mode; SyncDir on its parent or
// SyncFS makes it durable.
func (d Disk) Mkdir(path string, perm fs.FileMode) error {
	return d.do(StepMkdir, path, func() error {
		if err := os.Mkdir(path, perm); err != nil {
			return err
		}
		return os.Chmod(path, perm)
	})
}

// MkdirAll makes a directory and its missing parents, each durable.
func (d Disk) MkdirAll(path string, perm fs.FileMode) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if err := d.MkdirAll(parent, perm); err != nil {
		return err
	}
	if err := d.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// Remove removes a file or an empty directory; SyncDir makes it durable. That
// path is not there is no error.
func (d Disk) Remove(path string) error {
	return d.do(StepRemove, path, func() error { return removeIfThere(path) })
}

// RemoveAll removes a tree; SyncDir makes it durable. After a crash part of
// the tree may be left: rename it to where recovery clears up first.
func (d Disk) RemoveAll(path string) error {
	return d.do(StepRemove, path, func() error { return os.RemoveAll(path) })
}

// SyncDir makes all earlier changes of the directory's own entries durable.
func (d Disk) SyncDir(path string) error {
	return d.do(StepSyncDir, path, func() error {
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(dir.Sync(), dir.Close())
	})
}

// SyncFile makes the file's content and metadata durable.
func (d Disk) SyncFile(path string) error {
	return d.do(StepSync, path, func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// SyncFS makes everything on path's file system durable (syncfs(2)). It
// waits for everybody's dirty data there: for a few files, SyncFile and
// SyncDir are cheaper.
func (d Disk) SyncFS(path string) error {
	return d.do(StepSyncFS, path, func() error {
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
	})
}
