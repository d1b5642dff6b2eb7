package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"stork/repo/internal/home"
)

// treeWriter adds links to the tree and then makes them durable.
type treeWriter struct {
	home  *home.Home
	files []string        // added
	dirs  map[string]bool // whose entries changed
	known map[string]bool // directories that are there
}

func newTreeWriter(h *home.Home) *treeWriter {
	return &treeWriter{home: h, dirs: map[string]bool{}, known: map[string]bool{}}
}

// syncFrom is the number of files from which one syncfs is quicker than an
// fsync each: it waits for everybody's data, about as long as 30 fsyncs on
// an idle disk.
const syncFrom = 32

// link adds a link to the file from at a path of the tree. What is there
// already stays: names are digests. What is not in the session is there.
func (w *treeWriter) link(from, to string) error {
	if err := w.mkdir(path.Dir(to)); err != nil {
		return err
	}
	local := w.home.TreePath(to)
	err := w.home.Disk().Link(from, local)
	switch {
	case errors.Is(err, fs.ErrExist):
		return w.again(from, to)
	case errors.Is(err, fs.ErrNotExist):
		if _, statErr := os.Lstat(local); statErr == nil {
			return nil
		}
		return fmt.Errorf("cannot add %s: %w", to, err)
	case err != nil:
		return fmt.Errorf("cannot add %s: %w", to, err)
	}
	w.added(to)
	return nil
}

// again handles a name that is there. If it is this session's own link, from
// an attempt that did not reach its sync, it is still to be made durable.
func (w *treeWriter) again(from, to string) error {
	if sameFile(from, w.home.TreePath(to)) {
		w.added(to)
	}
	return nil
}

func (w *treeWriter) added(to string) {
	w.files = append(w.files, to)
	w.dirs[path.Dir(to)] = true
}

// mkdir makes one of the directories in which digests fan out.
func (w *treeWriter) mkdir(dir string) error {
	if w.known[dir] {
		return nil
	}
	err := w.home.Disk().Mkdir(w.home.TreePath(dir), 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make %s: %w", dir, err)
	}
	w.dirs[path.Dir(dir)] = true
	w.known[dir] = true
	return nil
}

// sync makes what was added durable.
func (w *treeWriter) sync() error {
	disk := w.home.Disk()
	if len(w.files) >= syncFrom {
		return disk.SyncFS(w.home.Tree())
	}
	for _, file := range w.files {
		if err := disk.SyncFile(w.home.TreePath(file)); err != nil {
			return err
		}
	}
	for dir := range w.dirs {
		if err := disk.SyncDir(w.home.TreePath(dir)); err != nil {
			return err
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	first, err := os.Lstat(a)
	if err != nil {
		return false
	}
	second, err := os.Lstat(b)
	return err == nil && os.SameFile(first, second)
}
