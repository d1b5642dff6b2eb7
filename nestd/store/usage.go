package store

import (
	"context"
	"encoding/binary"
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

// Division says who uses what of a store.
type Division struct {
	parts map[string]*part // by the set of users, a bit for each
}

// part is all inodes that the same users have, in bytes.
type part struct{ disk, cache int64 }

// Divide looks at every inode of the store, and says which of the users have
// it: users lists the trees, layers and merged ones, of each. skip names files
// that no user has from the store, but as a copy of its own.
func (s *Store) Divide(ctx context.Context, users [][]repo.Digest, skip func(layer repo.Digest, path string) bool) (*Division, error) {
	u := &dividing{s: s, skip: skip, words: (len(users) + 63) / 64, inodes: map[uint64]*usedInode{}}
	usedBy := map[repo.Digest][]uint64{}
	for i, trees := range users {
		for _, id := range trees {
			if usedBy[id] == nil {
				usedBy[id] = make([]uint64, u.words)
			}
			usedBy[id][i/64] |= 1 << (i % 64)
		}
	}
	ids, err := s.Layers()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := u.addTree(ctx, id, usedBy[id]); err != nil {
			return nil, fmt.Errorf("cannot measure layer %s: %w", id.Short(), err)
		}
	}
	if err := u.addObjects(ctx); err != nil {
		return nil, fmt.Errorf("cannot measure objects: %w", err)
	}
	return u.division(), nil
}

// dividing is one run of Divide.
type dividing struct {
	s      *Store
	skip   func(layer repo.Digest, path string) bool
	words  int // of a set of users
	inodes map[uint64]*usedInode
}

type usedInode struct {
	part
	users []uint64
}

// addTree notes who has what is in a tree; by is nil if nobody has it.
func (u *dividing) addTree(ctx context.Context, id repo.Digest, by []uint64) error {
	root := u.s.layerPath(id)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if u.skip(id, path[len(root):]) {
			return u.add(path, entry, nil)
		}
		if err := u.add(path, entry, by); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// addObjects adds what only objects/ has.
func (u *dividing) addObjects(ctx context.Context) error {
	dir := filepath.Join(u.s.dir, objectsName)
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // dropped meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		if err := u.add(path, entry, nil); err != nil {
			return err
		}
		return ctx.Err()
	})
}

func (u *dividing) add(path string, entry fs.DirEntry, by []uint64) error {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	inode := u.inodes[stat.Ino]
	if inode == nil {
		inode = &usedInode{part: part{disk: allocated(&stat)}, users: make([]uint64, u.words)}
		if entry.Type().IsRegular() {
			inode.cache = cached(path)
		}
		u.inodes[stat.Ino] = inode
	}
	for i, word := range by {
		inode.users[i] |= word
	}
	return nil
}

// cached returns how many bytes of one of the store's files are in the page
// cache; 0 if it is gone.
func cached(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	return Cached(f)
}

// Cached returns how many bytes of a file are in the page cache (cachestat(2),
// Linux 6.5); 0 where nobody can say.
func Cached(f *os.File) int64 {
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		return 0
	}
	return int64(stat.Cache) * int64(os.Getpagesize())
}

// division puts inodes with the same users together: there are few such sets.
func (u *dividing) division() *Division {
	d := &Division{parts: map[string]*part{}}
	key := make([]byte, 8*u.words)
	for _, inode := range u.inodes {
		for i, word := range inode.users {
			binary.LittleEndian.PutUint64(key[8*i:], word)
		}
		p := d.parts[string(key)]
		if p == nil {
			p = &part{}
			d.parts[string(key)] = p
		}
		p.disk += inode.disk
		p.cache += inode.cache
	}
	return d
}

// usersOf lists the users of a set.
func usersOf(set string) []int {
	var list []int
	for i := 0; i < len(set); i += 8 {
		for word := binary.LittleEndian.Uint64([]byte(set[i : i+8])); word != 0; word &= word - 1 {
			list = append(list, i*8+bits.TrailingZeros64(word))
		}
	}
	return list
}

// Among returns what each of n groups of users has, where groupOf says to
// which one a user belongs. The Fair parts of all, with Unused, are what the
// store takes, to the byte.
func (d *Division) Among(n int, groupOf func(user int) int) []Usage {
	all := make([]Usage, n)
	for set, p := range d.parts {
		in := make(map[int]bool)
		var groups []int
		for _, user := range usersOf(set) {
			if g := groupOf(user); !in[g] {
				in[g] = true
				groups = append(groups, g)
			}
		}
		for place, g := range groups {
			all[g].Disk.add(p.disk, place, len(groups))
			all[g].Cache.add(p.cache, place, len(groups))
		}
	}
	return all
}

// Unused returns the bytes on disk and in the page cache that no user has:
// layers that are kept for whoever asks next, and private files, of which
// users have copies of their own.
func (d *Division) Unused() (disk, cache int64) {
	for set, p := range d.parts {
		if len(usersOf(set)) == 0 {
			disk, cache = disk+p.disk, cache+p.cache
		}
	}
	return disk, cache
}

// add adds what the user at that place, of so many, has of bytes. What does
// not divide is left to the first ones, a byte for each.
func (u *Use) add(bytes int64, place, users int) {
	u.Apparent += bytes
	u.Fair += bytes / int64(users)
	if int64(place) < bytes%int64(users) {
		u.Fair++
	}
	if users == 1 {
		u.Private += bytes
	}
}
