package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"stork/repo"
)

// Recover finishes or undoes what an earlier run left, and must be called
// once, before the first Stage. ready holds every layer that has a committed
// row, with the name of its stage (rule N2). Recover moves those that still
// wait in staging to their place, and removes everything else: staged trees
// without a row, layers without a row, trash, and objects that nothing has a
// link to.
//
// It returns the layers that have a row and are nowhere, which no crash
// leaves: the caller drops their rows, so that they are fetched again.
func (s *Store) Recover(ctx context.Context, ready map[repo.Digest]string) (lost []repo.Digest, err error) {
	if lost, err = s.finishReady(ctx, ready); err != nil {
		return nil, fmt.Errorf("cannot recover store: %w", err)
	}
	if err := s.dropUnknown(ready); err != nil {
		return nil, fmt.Errorf("cannot recover store: %w", err)
	}
	if err := s.clear(ctx); err != nil {
		return nil, fmt.Errorf("cannot recover store: %w", err)
	}
	s.recovered.Store(true)
	return lost, nil
}

// finishReady runs the last step of every ready layer that lacks it.
func (s *Store) finishReady(ctx context.Context, ready map[repo.Digest]string) ([]repo.Digest, error) {
	var lost []repo.Digest
	for id, stage := range ready {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, ok := s.Layer(id); ok {
			continue
		}
		tree := filepath.Join(s.dir, stagingName, stage, treeName)
		if stage == "" || filepath.Base(stage) != stage || !isDir(tree) {
			s.log.Error("layer has a row and no files", "pkg", id.String())
			lost = append(lost, id)
			continue
		}
		if err := s.place(stage, id); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(lost, func(a, b repo.Digest) int { return slices.Compare(a[:], b[:]) })
	return lost, nil
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// dropUnknown moves layers without a row to trash.
func (s *Store) dropUnknown(ready map[repo.Digest]string) error {
	ids, err := s.Layers()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := ready[id]; ok {
			continue
		}
		s.log.Info("removing layer without a row", "pkg", id.String())
		if _, err := s.toTrash(id); err != nil {
			return err
		}
	}
	return nil
}

// clear empties staging and trash. If there was anything, objects may have
// lost their last link, and some may never have reached the disk: those that
// no ready layer has a link to go. The directories in staging and trash go
// last, so that a crash before leaves the sign.
func (s *Store) clear(ctx context.Context) error {
	var left []string
	for _, name := range []string{stagingName, trashName} {
		entries, err := os.ReadDir(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			left = append(left, filepath.Join(s.dir, name, entry.Name()))
		}
	}
	if len(left) == 0 {
		return nil
	}
	for _, dir := range left {
		if err := s.disk.RemoveAll(filepath.Join(dir, treeName)); err != nil {
			return err
		}
	}
	if err := s.sweep(ctx); err != nil {
		return err
	}
	for _, dir := range left {
		if err := s.disk.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
