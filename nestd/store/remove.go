package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Remove removes a layer, and the objects that no other layer has. The caller
// has removed its row (rule N4). That the layer is not there is no error.
// After an error the layer is gone or in the trash, which the next start-up
// empties.
func (s *Store) Remove(ctx context.Context, id repo.Digest) error {
	s.removing.Lock()
	defer s.removing.Unlock()
	trash, err := s.toTrash(id)
	if err != nil {
		return fmt.Errorf("cannot remove layer %s: %w", id.Short(), err)
	}
	if trash == "" {
		return nil
	}
	if err := s.emptyTrash(ctx, trash); err != nil {
		return fmt.Errorf("cannot remove layer %s: %w", id.Short(), err)
	}
	return nil
}

// toTrash moves a layer to where start-up removes it too, and returns where
// that is.
func (s *Store) toTrash(id repo.Digest) (string, error) {
	layer := s.layerPath(id)
	if _, err := os.Lstat(layer); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	trash := filepath.Join(s.dir, trashName, rand.Text())
	if err := s.disk.Mkdir(trash, 0o700); err != nil {
		return "", err
	}
	if err := s.disk.Rename(layer, filepath.Join(trash, treeName)); err != nil {
		return "", err
	}
	for _, dir := range []string{trash, filepath.Dir(trash), filepath.Dir(layer)} {
		if err := s.disk.SyncDir(dir); err != nil {
			return "", err
		}
	}
	return trash, nil
}

// emptyTrash removes one directory of trash/. The directory itself goes after
// the objects: as long as it is there, start-up looks for objects without
// layers.
func (s *Store) emptyTrash(ctx context.Context, trash string) error {
	tree := filepath.Join(trash, treeName)
	last, err := holdsLastLink(tree)
	if err != nil {
		return err
	}
	if err := s.disk.RemoveAll(tree); err != nil {
		return err
	}
	if last {
		if err := s.sweep(ctx); err != nil {
			return err
		}
	}
	return s.disk.RemoveAll(trash)
}

// holdsLastLink reports whether the tree has a file whose only other name is
// its object's.
func holdsLastLink(tree string) (bool, error) {
	left := map[uint64]uint64{} // inode → links not seen in the tree
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if _, seen := left[stat.Ino]; !seen {
			left[stat.Ino] = uint64(stat.Nlink)
		}
		left[stat.Ino]--
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, links := range left {
		if links <= 1 {
			return true, nil
		}
	}
	return false, nil
}

// sweep drops all objects that no tree has a link to.
func (s *Store) sweep(ctx context.Context) error {
	objects, err := s.objects()
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.dropObject(object); err != nil {
			return err
		}
	}
	return nil
}

// dropObject removes an object if it has no other link. A crash may undo
// that, which costs room until the next sweep, so nothing is synced.
func (s *Store) dropObject(object string) error {
	var shard int
	if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(object)), "%02x", &shard); err != nil {
		return fmt.Errorf("%s is in no object directory: %w", object, err)
	}
	s.shards[shard].Lock()
	defer s.shards[shard].Unlock()
	var stat unix.Stat_t
	err := unix.Lstat(object, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "lstat", Path: object, Err: err}
	}
	if stat.Nlink > 1 {
		return nil
	}
	return s.disk.Remove(object)
}
