package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stork/repo"
)

// Amount is a number of regular files, and the bytes of their allocated
// blocks.
type Amount struct {
	Files int
	Bytes int64
}

func (a *Amount) add(files int, each int64) {
	a.Files += files
	a.Bytes += int64(files) * each
}

// Packaged is a layer as [Store.Stats] wants it: whose package it is, which
// one of that publisher's (layers with the same name are versions of one
// package), how many users it has, and its file list.
type Packaged struct {
	ID        repo.Digest
	Publisher string
	Name      string
	Users     int
	List      func() (*repo.FileList, error)
}

// Stats says what a store holds, and what sharing saves. Each file of a
// package, hard links once, is new, or the same as one that is counted
// already, and is then counted at the nearest place where that is. So
//
//	Packaged - Within - Versions - Packages - Publishers + Copies + Loose = Stored
type Stats struct {
	Layers   int    // whose lists could be read
	Unread   int    // layers whose lists could not: their files are in no sum, or in Loose
	Packaged Amount // the files of all layers, as they were packaged
	Stored   Amount // objects

	Within     Amount // the same as another file of the package
	Versions   Amount // as one of another version of it
	Packages   Amount // as one of another package of the publisher
	Publishers Amount // as one of another publisher

	Copies Amount // objects that are there again, for the first one has all the links that the file system allows
	Loose  Amount // objects that no layer has: only merged trees

	// Of Stored, what has the content of another object: with another time,
	// which is kept for sources that have byte-code, or another mode or
	// capabilities.
	Times, Modes Amount

	Users Amount // what the users of layers would have besides, each a copy of its own, without those of private files

	LayerBytes  int64 // directories and symlinks of all layers
	TreeBytes   int64 // of merged trees, whiteouts included
	ObjectBytes int64 // the directories that hold objects
}

// Stats measures the store: layers are all that there are, trees the merged
// ones. Layers may come and go meanwhile; what is gone is left out.
func (s *Store) Stats(ctx context.Context, layers []Packaged, trees []repo.Digest, private func(*repo.File) bool) (*Stats, error) {
	m := &measure{s: s, private: private, seen: map[repo.Digest]bool{}}
	if err := m.run(ctx, layers, trees); err != nil {
		return nil, fmt.Errorf("cannot measure store: %w", err)
	}
	return &m.Stats, nil
}

// measure is one run of Stats.
type measure struct {
	Stats
	s       *Store
	private func(*repo.File) bool
	objects map[repo.Digest]*measured // by identity
	seen    map[repo.Digest]bool      // contents, and identities with the time left out, of objects that were counted
}

// measured is an object with its copies, and where it was seen last: numbers
// of layer, package and publisher in the order in which layers are counted.
type measured struct {
	bytes                 int64 // of one copy
	copies                int
	layer, pkg, publisher int
}

func (m *measure) run(ctx context.Context, layers []Packaged, trees []repo.Digest) error {
	if err := m.findObjects(ctx); err != nil {
		return err
	}
	ids := make([]repo.Digest, len(layers))
	for i := range layers {
		ids[i] = layers[i].ID
	}
	var err error
	if m.LayerBytes, err = m.s.frames(ctx, ids); err != nil {
		return err
	}
	if m.TreeBytes, err = m.s.frames(ctx, trees); err != nil {
		return err
	}
	if err := m.count(ctx, layers); err != nil {
		return err
	}
	for _, o := range m.objects {
		if o.layer == 0 {
			m.Loose.add(o.copies, o.bytes)
		} else {
			m.Copies.add(o.copies-1, o.bytes)
		}
	}
	return nil
}

// findObjects looks at the inode of every object.
func (m *measure) findObjects(ctx context.Context) error {
	paths, err := m.s.objects()
	if err != nil {
		return err
	}
	m.objects = make(map[repo.Digest]*measured, len(paths))
	blocks := make([]int64, len(paths))
	if err := inParallel(ctx, len(paths), func(_ []byte, n int) {
		var stat unix.Stat_t
		if err := unix.Lstat(paths[n], &stat); err != nil {
			blocks[n] = -1 // dropped meanwhile
			return
		}
		blocks[n] = allocated(&stat)
	}); err != nil {
		return err
	}
	for n, path := range paths {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		id, err := repo.ParseHex(name)
		if err != nil || blocks[n] < 0 {
			continue // what is no object is for Check
		}
		m.Stored.add(1, blocks[n])
		if o := m.objects[id]; o != nil {
			o.copies++
		} else {
			m.objects[id] = &measured{bytes: blocks[n], copies: 1}
		}
	}
	m.ObjectBytes, err = frame(ctx, filepath.Join(m.s.dir, objectsName))
	return err
}

// packagedUnit is what is counted of a unit.
type packagedUnit struct {
	id, content, timeless repo.Digest
	private               bool
}

// count goes through the layers in the order of publishers and packages. Some
// lists are read beside each other.
func (m *measure) count(ctx context.Context, layers []Packaged) error {
	layers = slices.SortedFunc(slices.Values(layers), func(a, b Packaged) int {
		return cmp.Or(cmp.Compare(a.Publisher, b.Publisher), cmp.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
	at := measured{}
	for first := 0; first < len(layers); first += 16 {
		batch := layers[first:min(first+16, len(layers))]
		units := make([][]packagedUnit, len(batch))
		if err := inParallel(ctx, len(batch), func(_ []byte, n int) { units[n] = m.unitsOf(&batch[n]) }); err != nil {
			return err
		}
		for n := range batch {
			l := &batch[n]
			if i := first + n; i == 0 || layers[i-1].Publisher != l.Publisher {
				at.publisher++
				at.pkg++
			} else if layers[i-1].Name != l.Name {
				at.pkg++
			}
			if units[n] == nil {
				m.Unread++
				continue
			}
			m.Layers++
			at.layer++
			for i := range units[n] {
				m.countUnit(&units[n][i], at, l.Users)
			}
		}
	}
	return nil
}

// unitsOf returns what a layer's list has; nil if it can not be read.
func (m *measure) unitsOf(l *Packaged) []packagedUnit {
	list, err := l.List()
	if err != nil {
		return nil
	}
	p := planOf(list, m.private)
	units := make([]packagedUnit, len(p.units))
	for i := range p.units {
		u := &p.units[i]
		id := u.identity()
		units[i] = packagedUnit{id: id, content: u.content, timeless: id, private: unitPrivate(list, u, m.private)}
		if u.mtime != FixedTime {
			u.mtime = FixedTime
			units[i].timeless = u.identity()
		}
	}
	return units
}

func (m *measure) countUnit(u *packagedUnit, at measured, users int) {
	o := m.objects[u.id]
	if o == nil {
		return // dropped meanwhile, or damaged, of which Check tells
	}
	m.Packaged.add(1, o.bytes)
	if users > 1 && !u.private {
		m.Users.add(users-1, o.bytes)
	}
	switch {
	case o.layer == 0:
		m.countContent(u, o)
	case o.layer == at.layer:
		m.Within.add(1, o.bytes)
	case o.pkg == at.pkg:
		m.Versions.add(1, o.bytes)
	case o.publisher == at.publisher:
		m.Packages.add(1, o.bytes)
	default:
		m.Publishers.add(1, o.bytes)
	}
	o.layer, o.pkg, o.publisher = at.layer, at.pkg, at.publisher
}

// countContent says whether an object that is seen first has the content of
// another one.
func (m *measure) countContent(u *packagedUnit, o *measured) {
	switch {
	case !m.seen[u.content]:
	case m.seen[u.timeless]:
		m.Times.add(1, o.bytes)
	default:
		m.Modes.add(1, o.bytes)
	}
	m.seen[u.content], m.seen[u.timeless] = true, true
}

// frames returns the bytes of everything in trees but regular files.
func (s *Store) frames(ctx context.Context, ids []repo.Digest) (int64, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	var total int64
	for _, id := range ids {
		g.Go(func() error {
			bytes, err := frame(ctx, s.layerPath(id))
			mu.Lock()
			defer mu.Unlock()
			total += bytes
			return err
		})
	}
	return total, g.Wait()
}

// frame returns the bytes of everything in a tree but regular files.
func frame(ctx context.Context, root string) (total int64, err error) {
	return total, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || entry.Type().IsRegular() {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		total += allocated(&stat)
		return ctx.Err()
	})
}

// allocated returns the bytes of an inode's blocks, which stat(2) counts in
// units of 512.
func allocated(stat *unix.Stat_t) int64 { return stat.Blocks * 512 }
