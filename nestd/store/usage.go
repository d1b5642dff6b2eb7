package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Use is what one user of layers uses, as memory is counted for processes
// (proc_pid_smaps(5)): Apparent counts every inode whole, as Rss does; Private
// those that nobody else uses, as Uss; Fair divides each among its users, as
// Pss. In bytes.
type Use struct {
	Apparent, Private, Fair int64
}

// Usage is a user's share of the disk, in allocated blocks, and of the page
// cache.
type Usage struct {
	Disk, Cache Use
}

// UsageOf divides what layers take among their users. skip names files that
// no user has from the store, but as a copy of its own.
func (s *Store) UsageOf(ctx context.Context, users [][]repo.Digest, skip func(layer repo.Digest, path string) bool) ([]Usage, error) {
	u := &usage{s: s, skip: skip, words: (len(users) + 63) / 64, inodes: map[uint64]*usedInode{}}
	usedBy := map[repo.Digest][]uint64{}
	for i, layers := range users {
		for _, id := range layers {
			if usedBy[id] == nil {
				usedBy[id] = make([]uint64, u.words)
			}
			usedBy[id][i/64] |= 1 << (i % 64)
		}
	}
	for id, by := range usedBy {
		if err := u.addLayer(ctx, id, by); err != nil {
			return nil, fmt.Errorf("cannot measure layer %s: %w", id.Short(), err)
		}
	}
	all := make([]Usage, len(users))
	for _, inode := range u.inodes {
		inode.divide(all)
	}
	return all, nil
}

// usage is one run of UsageOf.
type usage struct {
	s      *Store
	skip   func(layer repo.Digest, path string) bool
	words  int // of a set of users
	inodes map[uint64]*usedInode
}

type usedInode struct {
	disk, cache int64
	users       []uint64 // a bit for each
}

func (u *usage) addLayer(ctx context.Context, id repo.Digest, by []uint64) error {
	root := u.s.layerPath(id)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || u.skip(id, path[len(root):]) {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		inode := u.inodes[stat.Ino]
		if inode == nil {
			inode = &usedInode{disk: allocated(&stat), users: make([]uint64, u.words)}
			if entry.Type().IsRegular() {
				inode.cache = cached(path)
			}
			u.inodes[stat.Ino] = inode
		}
		for i, word := range by {
			inode.users[i] |= word
		}
		return nil
	})
}

// cached returns how many bytes of a file are in the page cache (cachestat(2),
// Linux 6.5); 0 where nobody can say.
func cached(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		return 0
	}
	return int64(stat.Cache) * int64(os.Getpagesize())
}

// divide adds the inode to everybody who uses it.
func (n *usedInode) divide(all []Usage) {
	users := 0
	for _, word := range n.users {
		users += bits.OnesCount64(word)
	}
	for i := range all {
		if n.users[i/64]&(1<<(i%64)) != 0 {
			all[i].Disk.add(n.disk, users)
			all[i].Cache.add(n.cache, users)
		}
	}
}

func (u *Use) add(bytes int64, users int) {
	u.Apparent += bytes
	u.Fair += bytes / int64(users)
	if users == 1 {
		u.Private += bytes
	}
}
