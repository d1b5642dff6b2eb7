package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Create makes a new file, readable for its owner only, and calls fill to
// write to it and to set what else it has. Nothing is durable yet: SyncFile
// and SyncDir, or SyncFS, make it so. On an error no file is left; path must
// not be there before.
func (d Disk) Create(path string, fill func(f *os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = d.do(StepWrite, path, func() error { return fill(f) })
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", path, err), removeIfThere(path))
	}
	return nil
}

// WriteFrom makes a new file of what r has, as [Disk.Create] does, and returns
// how many bytes that were.
func (d Disk) WriteFrom(path string, r io.Reader, perm fs.FileMode) (n int64, err error) {
	err = d.Create(path, func(f *os.File) (err error) {
		if n, err = io.Copy(f, r); err != nil {
			return err
		}
		return f.Chmod(perm)
	})
	return n, err
}
