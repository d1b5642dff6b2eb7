package state

import (
	"context"
	"database/sql"
	"slices"

	"stork/repo"
)

// reference is a guest's to a stack of trees.
type reference struct {
	tree        repo.Digest
	environment repo.Digest
	rank        int
}

// SetEnvironment makes tree what the guest asked for last. Beside it the guest
// keeps the one that it asked for before, and those whose environment is in
// keep; with a nil tree, only these. ErrNotFound if guest or tree is not
// there. If nothing changes, nothing is written.
func (s *State) SetEnvironment(ctx context.Context, guest string, tree *repo.Digest, keep []repo.Digest) error {
	var same bool
	err := s.read(ctx, "look up environment", func(tx *sql.Tx) error {
		old, err := references(ctx, tx, guest)
		same = slices.Equal(old, referAfter(old, tree, keep))
		return err
	})
	if same || err != nil {
		return err
	}
	return s.write(ctx, "set environment", func(tx *sql.Tx) error {
		old, err := references(ctx, tx, guest)
		if err != nil {
			return err
		}
		if err := setReferences(ctx, tx, guest, referAfter(old, tree, keep)); err != nil {
			return err
		}
		if tree == nil {
			return nil
		}
		_, err = tx.ExecContext(ctx, `UPDATE trees SET used = ? WHERE id = ?`, s.now().Unix(), tree[:])
		return err
	})
}

// KeepEnvironments drops the guest's references to all environments but
// those.
func (s *State) KeepEnvironments(ctx context.Context, guest string, keep []repo.Digest) error {
	return s.write(ctx, "keep environments", func(tx *sql.Tx) error {
		old, err := references(ctx, tx, guest)
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(old), func(r reference) bool { return !slices.Contains(keep, r.environment) })
		if len(kept) == len(old) {
			return nil
		}
		return setReferences(ctx, tx, guest, kept)
	})
}

// referAfter returns a guest's references after it has asked for tree.
func referAfter(old []reference, tree *repo.Digest, keep []repo.Digest) []reference {
	var after []reference
	again := false // it asks for the same once more: the one before stays that
	for _, r := range old {
		if tree != nil && r.tree == *tree {
			again = r.rank == 0
			after = append(after, reference{r.tree, r.environment, 0})
		}
	}
	if tree != nil && len(after) == 0 {
		after = append(after, reference{tree: *tree})
	}
	for _, r := range old {
		if tree != nil && r.tree == *tree {
			continue
		}
		before := tree != nil && (r.rank == 0 || again)
		if before || slices.Contains(keep, r.environment) {
			after = append(after, reference{r.tree, r.environment, 1})
		}
	}
	return after
}

func references(ctx context.Context, tx *sql.Tx, guest string) ([]reference, error) {
	rows, err := tx.QueryContext(ctx, `SELECT tree, environment, rank FROM environments JOIN trees ON tree = id
		WHERE guest = ? ORDER BY rank, tree`, guest)
	if err != nil {
		return nil, err
	}
	var list []reference
	return list, each(rows, func() error {
		var tree, environment []byte
		var r reference
		if err := rows.Scan(&tree, &environment, &r.rank); err != nil {
			return err
		}
		if r.tree, err = digest(tree); err != nil {
			return err
		}
		r.environment, err = digest(environment)
		list = append(list, r)
		return err
	})
}

func setReferences(ctx context.Context, tx *sql.Tx, guest string, list []reference) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM environments WHERE guest = ?`, guest); err != nil {
		return err
	}
	for _, r := range list {
		if _, err := tx.ExecContext(ctx, `INSERT INTO environments (guest, tree, rank) VALUES (?, ?, ?)`,
			guest, r.tree[:], r.rank); err != nil {
			return err
		}
	}
	return nil
}

// GuestTrees returns all trees of the environments that a guest refers to.
func (s *State) GuestTrees(ctx context.Context, guest string) ([]repo.Digest, error) {
	var list []repo.Digest
	return list, s.read(ctx, "list trees of guest", func(tx *sql.Tx) (err error) {
		list, err = queryDigests(ctx, tx, `WITH RECURSIVE mine (id) AS (SELECT tree FROM environments WHERE guest = ?
			UNION SELECT base FROM trees JOIN mine USING (id) WHERE base IS NOT NULL) SELECT id FROM mine ORDER BY id`, guest)
		return err
	})
}

// Entitled returns the layers that a guest was admitted for.
func (s *State) Entitled(ctx context.Context, guest string) (map[repo.Digest]bool, error) {
	entitled := map[repo.Digest]bool{}
	return entitled, s.read(ctx, "look up entitlements", func(tx *sql.Tx) error {
		list, err := queryDigests(ctx, tx, `SELECT layer FROM entitlements WHERE guest = ?`, guest)
		for _, id := range list {
			entitled[id] = true
		}
		return err
	})
}

// NoLayers returns those of ids that no layer has.
func (s *State) NoLayers(ctx context.Context, ids []repo.Digest) ([]repo.Digest, error) {
	var unknown []repo.Digest
	return unknown, s.read(ctx, "look up layers", func(tx *sql.Tx) error {
		for _, id := range ids {
			var one int
			err := tx.QueryRowContext(ctx, `SELECT 1 FROM layers WHERE id = ?`, id[:]).Scan(&one)
			if err == sql.ErrNoRows {
				unknown = append(unknown, id)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// PackageName returns the name of a package in the index database, for
// messages; ErrNotFound if none of the indexes has it.
func (s *State) PackageName(ctx context.Context, id repo.Digest) (string, error) {
	var name string
	return name, s.read(ctx, "look up package", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT name FROM packages WHERE record = ? LIMIT 1`, id[:]).Scan(&name)
	})
}
