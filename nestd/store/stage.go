package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"stork/repo"
)

// Stage is a layer in the making. One goroutine at a time uses it. Whoever
// has one ends it with Place or Discard.
type Stage struct {
	s    *Store
	name string
	dir  string

	unsynced func(context.Context) error // what Sync has yet to do; nil: nothing

	mu     sync.Mutex
	linked []string // objects that the tree has links to
	merged bool     // the tree has links to objects of layers, too
}

// treeName is the layer in the making. Beside it lie large files that are
// still being written, under their place in the list.
const treeName = "tree"

// errNotRecovered says that staging may still hold what Recover must look at.
var errNotRecovered = errors.New("the store was not recovered")

// Stage makes a staging directory. It is on disk before anything else is: what
// lies in staging at start-up tells Recover to look for objects that no layer
// has.
func (s *Store) Stage() (*Stage, error) {
	if !s.recovered.Load() {
		return nil, fmt.Errorf("cannot stage a layer: %w", errNotRecovered)
	}
	name := rand.Text()
	st := &Stage{s: s, name: name, dir: filepath.Join(s.dir, stagingName, name)}
	if err := st.make(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot stage a layer: %w", err), st.Discard())
	}
	return st, nil
}

func (st *Stage) make() error {
	if err := st.s.disk.Mkdir(st.dir, 0o700); err != nil {
		return err
	}
	if err := st.s.disk.Mkdir(st.treeDir(), 0o755); err != nil {
		return err
	}
	return st.s.disk.SyncDir(filepath.Dir(st.dir))
}

// Name returns the stage's name: the row that makes the layer ready records
// it, so that [Store.Recover] can finish what a crash interrupted.
func (st *Stage) Name() string { return st.name }

func (st *Stage) treeDir() string { return filepath.Join(st.dir, treeName) }

// Place moves the filled tree to where [Store.Layer] finds it. The caller has
// committed the row that says so (rule N2). It may be repeated.
func (st *Stage) Place(ctx context.Context, id repo.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if st.unsynced != nil {
		return fmt.Errorf("cannot place layer %s: it is not durable yet", id)
	}
	if err := st.s.place(st.name, id); err != nil {
		return err
	}
	st.linked = nil
	return nil
}

// place is the last step of a layer, and start-up runs it again for every
// ready row (rule R2).
func (s *Store) place(name string, id repo.Digest) error {
	if err := s.moveTree(name, s.layerPath(id)); err != nil {
		return fmt.Errorf("cannot place layer %s: %w", id.Short(), err)
	}
	// The layer is safe. What is left of the stage is only room on disk, and
	// the next start-up takes it.
	if err := s.disk.RemoveAll(filepath.Join(s.dir, stagingName, name)); err != nil {
		s.log.Warn("cannot remove staging directory", "stage", name, "err", err)
	}
	return nil
}

func (s *Store) moveTree(name, layer string) error {
	stage := filepath.Join(s.dir, stagingName, name)
	_, err := os.Lstat(layer)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.ensureDir(filepath.Dir(layer)); err != nil {
			return err
		}
		if err := s.disk.Rename(filepath.Join(stage, treeName), layer); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		// Placed before: by an earlier call, unless this stage has a tree too.
		if _, err := os.Lstat(filepath.Join(stage, treeName)); err == nil {
			return fs.ErrExist
		}
	}
	if err := s.disk.SyncDir(filepath.Dir(layer)); err != nil {
		return err
	}
	return s.disk.SyncDir(s.LayersDir())
}

// Discard gives the stage up: tree, and the objects that nothing else
// links to. The staging directory itself goes last, so that a crash before
// leaves the sign that objects may have to go.
func (st *Stage) Discard() error {
	st.s.removing.Lock()
	defer st.s.removing.Unlock()
	if err := st.discardTree(); err != nil {
		return fmt.Errorf("cannot discard stage: %w", err)
	}
	for _, object := range st.linked {
		if err := st.s.dropObject(object); err != nil {
			return fmt.Errorf("cannot discard stage: %w", err)
		}
	}
	st.linked = nil
	if err := st.s.disk.RemoveAll(st.dir); err != nil {
		return fmt.Errorf("cannot discard stage: %w", err)
	}
	return nil
}

// discardTree removes the tree. The layers that a merged tree has its files
// from may have been removed since: then these links are the last ones.
func (st *Stage) discardTree() error {
	last := false
	if st.merged {
		var err error
		if last, err = holdsLastLink(st.treeDir()); err != nil {
			return err
		}
	}
	if err := st.s.disk.RemoveAll(st.treeDir()); err != nil {
		return err
	}
	if !last {
		return nil
	}
	return st.s.sweep(context.Background()) // short, and half of it would be for nothing
}
