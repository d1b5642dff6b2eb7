package store

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// CheckMerged compares a placed merged tree with what merging the same again
// would make: every path, its type, mode, owner and time, that each file is
// one that a member has, and that nothing else is there. It returns one
// sentence for each thing that is wrong. The members themselves are
// [Store.Check]'s; all of them, and the base, must be in their place.
func (s *Store) CheckMerged(ctx context.Context, id repo.Digest, merge Merge) []string {
	c := &mergedCheck{layerCheck: layerCheck{s: s, root: s.layerPath(id), want: map[string]bool{}}}
	c.layerCheck.dir("/", impliedMode)
	w, err := s.newWalk(merge, c)
	if err == nil {
		err = w.run(ctx)
	}
	if err != nil {
		c.add("cannot tell what it must have: %v", err)
	} else {
		c.extra()
	}
	return c.named(id)
}

// CheckLoose checks as much of a merged tree as can be told without its
// members, one of which is no longer there: types, owners, times, that each
// file is an object, and that whiteouts are in delta trees only.
func (s *Store) CheckLoose(ctx context.Context, id repo.Digest, delta bool) []string {
	c := &mergedCheck{layerCheck: layerCheck{s: s, root: s.layerPath(id)}}
	objects, err := s.inodes(ctx)
	if err != nil {
		c.add("%v", err)
		return c.named(id)
	}
	err = filepath.WalkDir(c.root, func(file string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		c.loose(strings.TrimPrefix(file, c.root), d, objects, delta)
		return nil
	})
	if err != nil {
		c.add("%v", err)
	}
	return c.named(id)
}

// inodes returns those of all objects.
func (s *Store) inodes(ctx context.Context) (map[uint64]bool, error) {
	paths, err := s.objects()
	if err != nil {
		return nil, err
	}
	inodes := make(map[uint64]bool, len(paths))
	for _, object := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(object, &stat); err == nil { // or it was dropped meanwhile
			inodes[stat.Ino] = true
		}
	}
	return inodes, nil
}

// mergedCheck is the maker that makes nothing, and compares.
type mergedCheck struct{ layerCheck }

func (c *mergedCheck) named(id repo.Digest) []string {
	found := c.sorted()
	for i := range found {
		found[i] = "merged tree " + id.Short() + ": " + found[i]
	}
	return found
}

// dir implements [maker].
func (c *mergedCheck) dir(p string, mode uint32) error {
	c.want[p] = true
	c.layerCheck.dir(p, mode)
	return nil
}

// leaf implements [maker].
func (c *mergedCheck) leaf(p string, from *entry) error {
	c.want[p] = true
	if from.symlink {
		c.symlink(&repo.File{Path: p, Link: from.target})
		return nil
	}
	stat, err := from.inode()
	if err != nil {
		return err
	}
	have, ok := c.inode(p, stat.Mode, stat.Mtim.Sec)
	if !ok {
		return nil
	}
	same, err := from.sameAs(&entry{file: c.root + p, stat: &have})
	if err != nil {
		return err
	}
	if !same {
		c.add("%s: is not the file that layer %s has", p, from.m.ID.Short())
	}
	return nil
}

// whiteout implements [maker].
func (c *mergedCheck) whiteout(p string) error {
	c.want[p] = true
	if stat, ok := c.inode(p, unix.S_IFCHR, FixedTime); ok && stat.Rdev != 0 {
		c.add("%s: is a device", p)
	}
	return nil
}

// loose looks at one entry without knowing what it ought to be.
func (c *mergedCheck) loose(p string, d fs.DirEntry, objects map[uint64]bool, delta bool) {
	var stat unix.Stat_t
	if err := unix.Lstat(c.root+p, &stat); err != nil {
		c.add("%s: %v", p, err)
		return
	}
	if stat.Uid != 0 || stat.Gid != 0 {
		c.add("%s: owner is %d:%d, want 0:0", p, stat.Uid, stat.Gid)
	}
	switch d.Type() {
	case 0:
		if !objects[stat.Ino] {
			c.add("%s: is no object", p)
		}
		return // its time is part of its identity
	case os.ModeDir, os.ModeSymlink:
	default:
		if !delta || !isWhiteout(&stat) {
			c.add("%s: does not belong there", p)
		}
	}
	if stat.Mtim.Sec != FixedTime || stat.Mtim.Nsec != 0 {
		c.add("%s: time is %d.%09d, want %d", p, stat.Mtim.Sec, stat.Mtim.Nsec, FixedTime)
	}
}
