package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"stork/repo"
)

// Member is a layer that takes part in a merge. It must be in its place.
type Member struct {
	ID repo.Digest
	// Private returns the paths of the layer that guests place for
	// themselves; nil: none. It is called once, and only if it matters.
	Private func() ([]string, error)
}

// Merge says what a merged tree is made of.
//
// Without Base it is a whole tree: everything that the members of Add have.
// With Base it is a delta tree: what has to lie on top of those trees, as the
// topmost layer of an overlay, to make of the members of Drop and Keep, which
// they show, those of Keep and Add. Its cost follows what Add and Drop have.
type Merge struct {
	Base            []repo.Digest // merged trees, topmost first
	Add, Drop, Keep []Member
	// Aliases maps directories to the directories where guests have what
	// members put below the former: see [CheckAliases].
	Aliases map[string]string
	// Limit is how many entries of directories a merge looks at, at most: a
	// bound for what packages can make the host do. 0: [DefaultMergeLimit].
	Limit int
}

// DefaultMergeLimit is some ten times what a large installation has.
const DefaultMergeLimit = 4 << 20

// Merged says what a merged tree has.
type Merged struct {
	Files     int // names of regular files, and symlinks
	Whiteouts int
	Dirs      int
}

// Entries is what the tree adds to or takes from those below it.
func (m Merged) Entries() int { return m.Files + m.Whiteouts }

// ErrTooLarge says that a merge has more entries than its limit.
var ErrTooLarge = errors.New("too many files for one tree")

// ErrAlias says that aliases are not as they must be.
var ErrAlias = errors.New("not a directory alias")

// ConflictError says that two packages have different things at one path.
type ConflictError struct {
	Path   string
	Layers [2]repo.Digest // the same twice, if aliases make two paths of one package one
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("packages %s and %s have different things at %s", e.Layers[0].Short(), e.Layers[1].Short(), e.Path)
}

// CheckAliases refuses aliases of which it would not be clear what they mean:
// both sides are absolute, clean and not the root, no alias is below another,
// and no target is an alias or below one. The error wraps [ErrAlias].
func CheckAliases(aliases map[string]string) error {
	for from, to := range aliases {
		for _, p := range []string{from, to} {
			if repo.CheckPath(p) != nil {
				return fmt.Errorf("%.100q → %.100q: want absolute, clean paths: %w", from, to, ErrAlias)
			}
		}
		for other := range aliases {
			if below(to, other) || from != other && below(from, other) {
				return fmt.Errorf("%.100q → %.100q: leads through alias %.100q: %w", from, to, other, ErrAlias)
			}
		}
	}
	return nil
}

// below reports whether p is dir or lies below it.
func below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// Merge makes the stage's tree a merged tree of layers that are in their
// place, and puts it on disk (rule N2). Its files are links to the same
// objects; it stays whole whatever becomes of the layers.
//
// Members that have the same path must have the same inode there, or one of
// the same identity, or equal symlinks, or directories. Of directories, a mode
// other than 0755, which is also that of directories no package lists, wins,
// and one other than 0700, which is also that of guests' own, over that. Else
// Merge returns a [ConflictError]. After an error the caller discards the
// stage.
func (st *Stage) Merge(ctx context.Context, merge Merge) (Merged, error) {
	st.merged = true
	maker := &treeMaker{st: st}
	w, err := st.s.newWalk(merge, maker)
	if err == nil {
		err = maker.run(ctx, w)
	}
	if err != nil {
		return Merged{}, fmt.Errorf("cannot merge layers: %w", err)
	}
	return maker.merged, nil
}

// newWalk checks what does not need a look at the disk, and finds the members.
func (s *Store) newWalk(merge Merge, maker maker) (*mergeWalk, error) {
	if err := CheckAliases(merge.Aliases); err != nil {
		return nil, err
	}
	w := &mergeWalk{s: s, maker: maker, aliases: merge.Aliases, left: merge.Limit}
	if w.left == 0 {
		w.left = DefaultMergeLimit
	}
	seen := map[repo.Digest]bool{}
	for i, list := range [][]Member{merge.Add, merge.Drop, merge.Keep} {
		for _, m := range list {
			if seen[m.ID] {
				return nil, fmt.Errorf("layer %s takes part twice", m.ID)
			}
			seen[m.ID] = true
			w.members[i] = append(w.members[i], &member{Member: m, root: s.layerPath(m.ID)})
		}
		// The result must not depend on the order in which they are named.
		slices.SortFunc(w.members[i], func(a, b *member) int { return slices.Compare(a.ID[:], b.ID[:]) })
	}
	for _, id := range merge.Base {
		dir, placed := s.Layer(id)
		if !placed {
			return nil, fmt.Errorf("tree %s is not there", id)
		}
		w.base = append(w.base, dir)
	}
	return w, nil
}

// treeMaker makes what a walk finds, in a stage.
type treeMaker struct {
	st     *Stage
	merged Merged
	dirs   []planDir
	work   workGroup
}

func (m *treeMaker) run(ctx context.Context, w *mergeWalk) error {
	err := w.run(m.work.start(ctx))
	// The workers' error is the cause, if they have one.
	if workErr := m.work.wait(); workErr != nil {
		err = workErr
	}
	if err != nil {
		return err
	}
	if err := m.finish(); err != nil {
		return err
	}
	return m.sync(ctx)
}

func (m *treeMaker) inTree(p string) string { return filepath.Join(m.st.treeDir(), p) }

// dir implements [maker].
func (m *treeMaker) dir(p string, mode uint32) error {
	m.dirs = append(m.dirs, planDir{path: p, mode: mode})
	m.merged.Dirs++
	return m.st.s.disk.Mkdir(m.inTree(p), 0o700)
}

// leaf implements [maker].
func (m *treeMaker) leaf(p string, from *entry) error {
	m.merged.Files++
	return m.work.do(func() error {
		if from.symlink {
			return m.st.s.makeSymlink(from.target, m.inTree(p))
		}
		return m.st.linkFile(from.file, m.inTree(p))
	})
}

// whiteout implements [maker].
func (m *treeMaker) whiteout(p string) error {
	m.merged.Whiteouts++
	return m.st.s.makeWhiteout(m.inTree(p))
}

// finish gives directories their modes and times, the deepest first.
func (m *treeMaker) finish() error {
	for _, dir := range slices.Backward(m.dirs) {
		if err := setDir(m.inTree(dir.path), dir.mode); err != nil {
			return err
		}
	}
	return setDir(m.st.treeDir(), 0o755)
}

// sync puts the tree on disk. All that is linked is there already, for its
// layers are ready, but for objects that had to be made.
func (m *treeMaker) sync(ctx context.Context) error {
	disk := m.st.s.disk
	if len(m.dirs) > m.st.s.fewSyncs || len(m.st.linked) > 0 {
		return m.st.s.syncFS(ctx)
	}
	dirs := []string{m.st.dir, m.st.treeDir()}
	for _, dir := range m.dirs {
		dirs = append(dirs, m.inTree(dir.path))
	}
	return syncEach(ctx, dirs, disk.SyncDir)
}
