package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"stork/repo"
	"stork/repo/delta"
	"stork/repo/index"
	"stork/signing"
)

// maxRenewals bounds how many versions of a role are looked through for
// earlier indexes: a role that is signed again and again may name the same one.
const maxRenewals = 64

// writeDeltas makes the deltas to an index from the last few before it, into
// the session's directory, and notes them in the mark. That an earlier index
// can not be read is no reason to refuse the next one: then there is no delta
// from it.
func (i *Ingest) writeDeltas(ctx context.Context, p *placing, src source) error {
	p.Deltas = nil
	for _, object := range i.earlierIndexes(p) {
		old, err := index.Open(ctx, src, object)
		var b []byte
		if err == nil {
			b, err = delta.Make(ctx, src, old, p.objects.index)
		}
		switch {
		case errors.Is(err, delta.ErrNone):
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			i.log.Warn("no delta", "role", p.Role, "from", object.Digest, "err", err)
			continue
		}
		// Not durable yet: the links in the tree will be made so (P1).
		if err := i.home.Disk().WriteCache(p.deltaFile(object.Digest), b, 0o644); err != nil {
			return fmt.Errorf("cannot make delta: %w", err)
		}
		p.Deltas = append(p.Deltas, repo.DeltaPath(object.Digest, p.objects.index.Object.Digest))
	}
	return nil
}

// earlierIndexes are the roots of the last few indexes that the role named,
// the newest first.
func (i *Ingest) earlierIndexes(p *placing) []repo.Object {
	var found []repo.Object
	last := p.objects.index.Object
	for version := p.Version - 1; version > 0 && version >= p.Version-maxRenewals && len(found) < i.limits.Deltas; version-- {
		b, err := os.ReadFile(i.home.TreePath(repo.MetadataPath(string(p.Role), version)))
		var role *signing.SignedRole
		if err == nil {
			role, err = signing.ParseRole(b)
		}
		if err != nil {
			i.log.Warn("no deltas from earlier indexes", "role", p.Role, "version", version, "err", err)
			break
		}
		object := role.Targets[signing.IndexTarget(p.Role.Publisher())]
		if object != last && !slices.Contains(found, object) {
			found = append(found, object)
		}
	}
	return found
}

// deltasTo returns the tree paths of the deltas to an index.
func (i *Ingest) deltasTo(root repo.Digest) ([]string, error) {
	dir := path.Dir(repo.DeltaPath(repo.Digest{}, root))
	entries, err := os.ReadDir(i.home.TreePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list deltas: %w", err)
	}
	var paths []string
	for _, entry := range entries {
		p := path.Join(dir, entry.Name())
		if _, to, err := repo.ParseDeltaPath(p); err == nil && to == root {
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// deltaPrefix starts the names of the session's deltas; the root that they go
// out from follows.
const deltaPrefix = "delta-"

// deltaFile is where the session's delta from an index is made.
func (p *placing) deltaFile(old repo.Digest) string { return deltaFile(p.dir, old) }

func deltaFile(dir string, old repo.Digest) string {
	return filepath.Join(dir, deltaPrefix+old.Hex())
}

// linkDeltas shows the session's deltas at their places in the tree.
func (p *placing) linkDeltas(tree *treeWriter) error {
	for _, to := range p.Deltas {
		old, _, err := repo.ParseDeltaPath(to)
		if err != nil {
			return err
		}
		if err := tree.link(p.deltaFile(old), to); err != nil {
			return err
		}
	}
	return nil
}

// undoDeltas removes from the tree what it shares with the session.
func (i *Ingest) undoDeltas(dir string, m *mark) error {
	var errs []error
	for _, to := range m.Deltas {
		old, _, err := repo.ParseDeltaPath(to)
		if err == nil && sameFile(deltaFile(dir, old), i.home.TreePath(to)) {
			err = i.home.Disk().Remove(i.home.TreePath(to))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkDeltaPaths refuses a mark whose paths are not those of deltas.
func checkDeltaPaths(lists ...[]string) error {
	for _, list := range lists {
		for _, p := range list {
			if _, _, err := repo.ParseDeltaPath(p); err != nil {
				return fmt.Errorf("cannot read %s: %q is not the path of a delta", markName, p)
			}
		}
	}
	return nil
}
