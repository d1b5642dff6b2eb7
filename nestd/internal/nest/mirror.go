package nest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"stork/repo"
	"stork/repo/durable"
)

// mirror holds the metadata of one repository that guests see. Files are
// stored by digest; which path shows which file is one document, so that
// guests go from one snapshot to the next in a single step (rule N5).
type mirror struct {
	dir  string
	disk durable.Disk
	view atomic.Pointer[mirrorView]
}

// mirrorFormat is the version of the view document.
const mirrorFormat = 1

// mirrorView is what guests see. It is never changed, only replaced.
type mirrorView struct {
	Files    map[string]mirrorFile `json:"files"`
	Format   int                   `json:"format"`
	Previous map[string]mirrorFile `json:"previous"` // immutable files of the snapshot before, for who is reading it
}

type mirrorFile struct {
	Object   repo.Object `json:"object"`
	Verified bool        `json:"verified"` // by signing: what is not is shown, so that guests see why, but asked for again
}

// maxView bounds the view document, in bytes.
const maxView = 256 << 20

func openMirror(dir string, disk durable.Disk) (*mirror, error) {
	m := &mirror{dir: dir, disk: disk}
	if err := disk.MkdirAll(m.filesDir(), 0o700); err != nil {
		return nil, fmt.Errorf("cannot open mirror: %w", err)
	}
	view := &mirrorView{Format: mirrorFormat}
	b, err := readFile(m.viewPath(), maxView)
	if err == nil {
		err = repo.DecodeStrict(b, view)
	}
	if err == nil && view.Format != mirrorFormat {
		err = fmt.Errorf("format %d is unknown", view.Format)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot open mirror %s: %w", m.viewPath(), err)
	}
	m.view.Store(view)
	return m, nil
}

func (m *mirror) filesDir() string              { return filepath.Join(m.dir, "files") }
func (m *mirror) viewPath() string              { return filepath.Join(m.dir, "view.json") }
func (m *mirror) filePath(d repo.Digest) string { return filepath.Join(m.filesDir(), d.Hex()) }

// read returns the file that guests see at path.
func (m *mirror) read(path string) ([]byte, error) {
	view := m.view.Load()
	file, ok := view.Files[path]
	if !ok {
		file, ok = view.Previous[path]
	}
	if !ok {
		return nil, absent(path)
	}
	b, err := readFile(m.filePath(file.Object.Digest), file.Object.Size)
	if errors.Is(err, fs.ErrNotExist) && m.view.Load() != view {
		return m.read(path) // the view changed twice meanwhile and the file went
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %v", path, err) // ours to lose: not "there is none"
	}
	return b, nil
}

// verified returns the file at an immutable path if signing has verified it
// before.
func (m *mirror) verified(path string) ([]byte, bool) {
	file, ok := m.view.Load().Files[path]
	if !ok || !file.Verified || path == repo.TimestampPath {
		return nil, false
	}
	b, err := readFile(m.filePath(file.Object.Digest), file.Object.Size)
	return b, err == nil && repo.ObjectOf(b) == file.Object
}

// show stores files and then, in one step, shows exactly them.
func (m *mirror) show(ctx context.Context, files map[string]fetched) error {
	old := m.view.Load()
	next := &mirrorView{Format: mirrorFormat, Files: map[string]mirrorFile{}, Previous: map[string]mirrorFile{}}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		object := repo.ObjectOf(f.content)
		next.Files[path] = mirrorFile{Object: object, Verified: f.verified}
		if _, err := os.Lstat(m.filePath(object.Digest)); err == nil {
			continue // written whole, by an earlier show
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.disk.WriteFile(m.filePath(object.Digest), f.content, 0o600); err != nil {
			return fmt.Errorf("cannot store %s: %w", path, err)
		}
	}
	for path, f := range old.Files {
		if _, ok := next.Files[path]; !ok && path != repo.TimestampPath {
			next.Previous[path] = f
		}
	}
	b, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("cannot show snapshot: %w", err)
	}
	if err := m.disk.WriteFile(m.viewPath(), b, 0o600); err != nil {
		return fmt.Errorf("cannot show snapshot: %w", err)
	}
	m.view.Store(next)
	return m.clear(next)
}

// clear removes files that no path shows. What a crash leaves, the next show
// removes.
func (m *mirror) clear(view *mirrorView) error {
	shown := map[string]bool{}
	for _, files := range []map[string]mirrorFile{view.Files, view.Previous} {
		for _, f := range files {
			shown[f.Object.Digest.Hex()] = true
		}
	}
	entries, err := os.ReadDir(m.filesDir())
	if err != nil {
		return fmt.Errorf("cannot clear mirror: %w", err)
	}
	for _, entry := range entries {
		if shown[entry.Name()] {
			continue
		}
		if err := m.disk.Remove(filepath.Join(m.filesDir(), entry.Name())); err != nil {
			return fmt.Errorf("cannot clear mirror: %w", err)
		}
	}
	return nil
}

// readFile reads a file of ours, of at most max bytes.
func readFile(path string, max int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > max {
		return nil, fmt.Errorf("%s: over %d bytes", path, max)
	}
	return os.ReadFile(path)
}
