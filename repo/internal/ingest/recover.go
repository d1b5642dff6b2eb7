package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/durable"
)

// mark (P5) says that a session's objects are on their way into the tree. It lies
// in the session's directory from before the first link until after the
// publication.
type mark struct {
	Deltas    []string    `json:"deltas,omitempty"` // tree paths, go when the role is not published
	Digest    repo.Digest `json:"digest"`           // of the role file
	Format    int         `json:"format"`
	OldDeltas []string    `json:"old_deltas,omitempty"` // tree paths, go when it is
	OldPack   string      `json:"old_pack,omitempty"`   // tree path, goes when it is
	Pack      string      `json:"pack,omitempty"`       // tree path, goes when it is not
	Role      repo.Role   `json:"role"`
	Version   int64       `json:"version"`
}

const (
	markName   = "placing.json"
	markFormat = 1
	packName   = "pack"
	maxMark    = 64 << 10
)

func (i *Ingest) writeMark(dir string, m *mark) error {
	b, err := repo.EncodeCanonical(m)
	if err != nil {
		return err
	}
	return i.home.Disk().WriteFile(filepath.Join(dir, markName), b, 0o600)
}

func readMark(dir string) (*mark, error) {
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if err != nil {
		return nil, err
	}
	return decodeMark(b)
}

// decodeMark reads a mark, whose paths name files that recovery removes.
func decodeMark(b []byte) (*mark, error) {
	m := new(mark)
	if len(b) > maxMark {
		return nil, fmt.Errorf("cannot read %s: over %d bytes", markName, maxMark)
	}
	if err := repo.DecodeStrict(b, m); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", markName, err)
	}
	if m.Format != markFormat {
		return nil, fmt.Errorf("cannot read %s: unknown format %d", markName, m.Format)
	}
	if _, err := repo.ParseRole(string(m.Role)); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", markName, err)
	}
	for _, p := range []string{m.Pack, m.OldPack} {
		if p == "" {
			continue
		}
		if d, err := repo.ParseHex(path.Base(p)); err != nil || p != repo.PackPath(d) {
			return nil, fmt.Errorf("cannot read %s: %q is not the path of a pack", markName, p)
		}
	}
	if err := checkDeltaPaths(m.Deltas, m.OldDeltas); err != nil {
		return nil, err
	}
	return m, nil
}

// clear ends a placing whose role is published.
func (i *Ingest) clear(dir string, m *mark) error {
	disk := i.home.Disk()
	old := m.OldDeltas
	if m.OldPack != "" {
		old = append(old, m.OldPack)
	}
	for _, p := range old {
		if err := disk.Remove(i.home.TreePath(p)); err != nil {
			return err
		}
	}
	return disk.Remove(filepath.Join(dir, markName))
}

// undo ends a placing whose role is not published: what the tree shares with
// the session leaves the tree. It goes on after an error: the less is left,
// the better.
func (i *Ingest) undo(dir string, m *mark) error {
	disk := i.home.Disk()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		from := filepath.Join(dir, entry.Name())
		if p, ok := framesOf(entry.Name()); ok && sameFile(from, i.home.TreePath(p)) {
			errs = append(errs, disk.Remove(i.home.TreePath(p)))
		}
		d, err := repo.ParseHex(entry.Name())
		if err != nil {
			continue
		}
		for _, kind := range []api.Kind{api.Data, api.Blob} {
			if to := i.home.TreePath(treePath(kind, d)); sameFile(from, to) {
				errs = append(errs, disk.Remove(to))
			}
		}
	}
	if m.Pack != "" && sameFile(filepath.Join(dir, packName), i.home.TreePath(m.Pack)) {
		errs = append(errs, disk.Remove(i.home.TreePath(m.Pack)))
	}
	errs = append(errs, i.undoDeltas(dir, m))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return disk.Remove(filepath.Join(dir, markName))
}

// Recover finishes or undoes what a crash has left, and removes what belongs
// to nothing. It is called before the first upload is taken. Sessions stay:
// their publishers may come back.
func (i *Ingest) Recover(ctx context.Context) error {
	unlock, err := i.home.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := i.home.MakeTree(); err != nil {
		return fmt.Errorf("cannot recover the tree: %w", err)
	}
	if err := i.removeSessionTemps(); err != nil {
		return fmt.Errorf("cannot recover uploads: %w", err)
	}
	if err := i.recoverSessions(ctx); err != nil {
		return fmt.Errorf("cannot recover uploads: %w", err)
	}
	if err := i.recoverTree(); err != nil {
		return fmt.Errorf("cannot recover the tree: %w", err)
	}
	return nil
}

// removeSessionTemps removes what a process that ended has left half written.
// Only start-up may: later, somebody is writing.
func (i *Ingest) removeSessionTemps() error {
	entries, err := os.ReadDir(i.home.Uploads())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if err := i.removeTemps(filepath.Join(i.home.Uploads(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (i *Ingest) recoverSessions(ctx context.Context) error {
	entries, err := os.ReadDir(i.home.Uploads())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(i.home.Uploads(), entry.Name())
		if strings.HasPrefix(entry.Name(), trashPrefix) {
			if err := i.home.Disk().RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		if err := i.recoverSession(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func (i *Ingest) recoverSession(ctx context.Context, dir string) error {
	m, err := readMark(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	done, err := i.published(ctx, m.Role, m.Digest)
	if err != nil {
		return err
	}
	i.log.Info("interrupted commit found", "role", m.Role, "version", m.Version, "published", done)
	if !done {
		return i.undo(dir, m)
	}
	if err := i.clear(dir, m); err != nil {
		return err
	}
	return i.discard(dir)
}

// recoverTree removes temporary files, and metadata that was written for a
// snapshot that no timestamp came to name (P4).
func (i *Ingest) recoverTree() error {
	keys, err := filepath.Glob(i.home.TreePath("keys/*"))
	if err != nil {
		return err
	}
	for _, dir := range append(keys, i.home.Dir(), i.home.Tree(), i.home.TreePath("metadata")) {
		if err := i.removeTemps(dir); err != nil {
			return err
		}
	}
	versions, err := i.home.Versions()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(i.home.TreePath("metadata"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		number, role, ok := strings.Cut(strings.TrimSuffix(entry.Name(), ".json"), ".")
		version, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil || role == "root" {
			continue
		}
		newest := versions.Roles[role]
		if role == "snapshot" {
			newest = versions.Snapshot
		}
		if version <= newest {
			continue
		}
		if err := i.home.Disk().Remove(i.home.TreePath(repo.MetadataPath(role, version))); err != nil {
			return err
		}
	}
	return nil
}

func (i *Ingest) removeTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), durable.TempPrefix) {
			if err := i.home.Disk().Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
