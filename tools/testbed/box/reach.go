package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// makeReachable lets the machines' unprivileged users come to paths that lie
// below directories which are closed to them, root's home for example. Such a
// directory is covered, here and in the machines only, by an empty one that
// holds those paths and nothing else.
func makeReachable(paths []string) error {
	closed := map[string][]string{} // covered directory → what it keeps
	for _, path := range paths {
		if top := closedAbove(path); top != "" {
			closed[top] = append(closed[top], path)
		}
	}
	for top, kept := range closed {
		if err := cover(top, kept); err != nil {
			return fmt.Errorf("cannot let users reach below %s: %w", top, err)
		}
	}
	return nil
}

// closedAbove returns the uppermost directory above path that is not open to
// everybody; empty if all are.
func closedAbove(path string) string {
	top := ""
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			top = dir
		}
	}
	return top
}

func cover(top string, kept []string) (err error) {
	trees := make([]*os.File, len(kept))
	defer func() {
		for _, f := range trees {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	for i, path := range kept {
		if trees[i], err = os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return err
		}
	}
	if err := unix.Mount("closed", top, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for i, path := range kept {
		if inside(path, kept) {
			continue // comes with the one above it
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		from := "/proc/self/fd/" + strconv.Itoa(int(trees[i].Fd()))
		if err := unix.Mount(from, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return nil
}

// inside says whether path lies below another one.
func inside(path string, others []string) bool {
	for _, other := range others {
		if strings.HasPrefix(path, other+"/") {
			return true
		}
	}
	return false
}
