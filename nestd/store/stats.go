package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Stats says what a store holds. Bytes are allocated blocks.
type Stats struct {
	Objects  int
	Layers   int
	Merged   int   // merged trees
	Bytes    int64 // of objects and of the trees' directories and symlinks, each inode once
	OfMerged int64 // those of Bytes that only merged trees have
	Apparent int64 // what the layers would take if they shared nothing; merged trees are no part of it
}

// Stats walks the store. merged says which trees are no layers.
func (s *Store) Stats(ctx context.Context, merged map[repo.Digest]bool) (Stats, error) {
	stats, err := s.stats(ctx, merged)
	if err != nil {
		return Stats{}, fmt.Errorf("cannot measure store: %w", err)
	}
	return stats, nil
}

func (s *Store) stats(ctx context.Context, merged map[repo.Digest]bool) (Stats, error) {
	var total Stats
	paths, err := s.objects()
	if err != nil {
		return total, err
	}
	seen := make(map[uint64]bool, len(paths))
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			continue // dropped meanwhile
		}
		total.Objects++
		total.Bytes += allocated(&stat)
		seen[stat.Ino] = true
	}
	ids, err := s.Layers()
	if err != nil {
		return total, err
	}
	var trees Stats
	for _, isMerged := range []bool{false, true} { // what both have is the layers'
		into := &total
		if isMerged {
			into = &trees
		}
		for _, id := range ids {
			if merged[id] != isMerged {
				continue
			}
			if err := ctx.Err(); err != nil {
				return total, err
			}
			if err := s.addLayer(into, id, seen); err != nil {
				return total, err
			}
		}
	}
	total.Merged, total.OfMerged = trees.Layers, trees.Bytes
	total.Bytes += trees.Bytes
	return total, nil
}

// addLayer adds what one layer would take alone to Apparent, and what only it
// has to Bytes.
func (s *Store) addLayer(total *Stats, id repo.Digest, seen map[uint64]bool) error {
	own := map[uint64]bool{}
	err := filepath.WalkDir(s.layerPath(id), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if !own[stat.Ino] {
			own[stat.Ino] = true
			total.Apparent += allocated(&stat)
		}
		if !seen[stat.Ino] {
			seen[stat.Ino] = true
			total.Bytes += allocated(&stat)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) { // removed meanwhile
		return err
	}
	if err == nil {
		total.Layers++
	}
	return nil
}

// allocated returns the bytes of an inode's blocks, which stat(2) counts in
// units of 512.
func allocated(stat *unix.Stat_t) int64 { return stat.Blocks * 512 }
