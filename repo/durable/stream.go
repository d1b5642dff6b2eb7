package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// WriteFrom makes a new file of what r has and returns how many bytes that
// were. Nothing is durable yet: SyncFile and SyncDir, or SyncFS, make it so.
// On an error no file is left; path must not be there before.
func (d Disk) WriteFrom(path string, r io.Reader, perm fs.FileMode) (n int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	err = d.do(StepWrite, path, func() (err error) {
		n, err = io.Copy(f, r)
		return err
	})
	if err == nil {
		err = f.Chmod(perm)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return n, errors.Join(fmt.Errorf("cannot write %s: %w", path, err), removeIfThere(path))
	}
	return n, nil
}
