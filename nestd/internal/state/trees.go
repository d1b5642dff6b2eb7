package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"stork/repo"
)

// Tree is the row of a merged tree.
type Tree struct {
	ID          repo.Digest
	Environment repo.Digest  // what the stack from this tree down shows
	Base        *repo.Digest // the tree below; nil: there is none
	Staging     string       // the stage's name, from which it is moved to its place (rule N2)
	Aliases     map[string]string
	Layers      []repo.Digest // that the stack shows, sorted
	Entries     int           // files, symlinks and whiteouts of this tree alone
}

// AddTree commits a merged tree as ready. ErrExists if there is one of that
// ID, ErrNotFound if its base is gone.
func (s *State) AddTree(ctx context.Context, t Tree) error {
	aliases, err := jsonAliases(t.Aliases)
	if err != nil {
		return fmt.Errorf("cannot add tree: %w", err)
	}
	var base []byte
	if t.Base != nil {
		base = t.Base[:]
	}
	layers := make([]byte, 0, len(t.Layers)*len(repo.Digest{}))
	for _, id := range t.Layers {
		layers = append(layers, id[:]...)
	}
	return s.write(ctx, "add tree", func(tx *sql.Tx) error {
		now := s.now().Unix()
		_, err := tx.ExecContext(ctx, `INSERT INTO trees (id, environment, base, staging, aliases, layers, entries, created, used)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, t.ID[:], t.Environment[:], base, t.Staging, aliases, layers, t.Entries, now, now)
		return err
	})
}

// jsonAliases is one text for equal aliases: keys are sorted.
func jsonAliases(aliases map[string]string) (string, error) {
	if aliases == nil {
		aliases = map[string]string{}
	}
	b, err := json.Marshal(aliases)
	return string(b), err
}

const treeColumns = `id, environment, base, staging, aliases, layers, entries`

// Trees lists all merged trees by ID.
func (s *State) Trees(ctx context.Context) ([]*Tree, error) {
	return s.trees(ctx, `SELECT `+treeColumns+` FROM trees ORDER BY id`)
}

// Tree returns the row of a merged tree, or ErrNotFound.
func (s *State) Tree(ctx context.Context, id repo.Digest) (*Tree, error) {
	list, err := s.trees(ctx, `SELECT `+treeColumns+` FROM trees WHERE id = ?`, id[:])
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("cannot look up tree %s: %w", id.Short(), ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// NearTrees returns trees with those aliases among which one may show what a
// guest wants, or nearly: all of that environment, what the guest refers to,
// and the limit that were asked for last; and the trees below them.
func (s *State) NearTrees(ctx context.Context, guest string, environment repo.Digest, aliases map[string]string, limit int) ([]*Tree, error) {
	text, err := jsonAliases(aliases)
	if err != nil {
		return nil, fmt.Errorf("cannot list trees: %w", err)
	}
	return s.trees(ctx, `WITH RECURSIVE near (id) AS (
			SELECT id FROM trees WHERE environment = ?1
			UNION SELECT tree FROM environments WHERE guest = ?2
			UNION SELECT * FROM (SELECT id FROM trees WHERE aliases = ?3 ORDER BY used DESC LIMIT ?4)
			UNION SELECT base FROM trees JOIN near USING (id) WHERE base IS NOT NULL
		) SELECT `+treeColumns+` FROM trees JOIN near USING (id) WHERE aliases = ?3 ORDER BY id`,
		environment[:], guest, text, limit)
}

func (s *State) trees(ctx context.Context, query string, args ...any) ([]*Tree, error) {
	var list []*Tree
	return list, s.read(ctx, "list trees", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			t, err := scanTree(rows)
			list = append(list, t)
			return err
		})
	})
}

func scanTree(row interface{ Scan(...any) error }) (*Tree, error) {
	t := new(Tree)
	var id, environment, base, layers []byte
	var aliases string
	err := row.Scan(&id, &environment, &base, &t.Staging, &aliases, &layers, &t.Entries)
	if err != nil {
		return nil, err
	}
	if t.ID, err = digest(id); err != nil {
		return nil, err
	}
	if t.Environment, err = digest(environment); err != nil {
		return nil, err
	}
	if base != nil {
		below, err := digest(base)
		if err != nil {
			return nil, err
		}
		t.Base = &below
	}
	if t.Layers, err = digests(layers); err != nil {
		return nil, err
	}
	return t, json.Unmarshal([]byte(aliases), &t.Aliases)
}

// digests reads a column of many times 32 bytes.
func digests(b []byte) ([]repo.Digest, error) {
	const size = len(repo.Digest{})
	list := make([]repo.Digest, 0, len(b)/size)
	for ; len(b) >= size; b = b[size:] {
		list = append(list, repo.Digest(b[:size]))
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("cannot read digests: %d bytes too many in the database", len(b))
	}
	return list, nil
}

// DropTrees removes the rows of all trees that no guest refers to, that no
// other tree lies on, and that are not among busy, and returns their IDs (rule
// N4).
func (s *State) DropTrees(ctx context.Context, busy map[repo.Digest]bool) ([]repo.Digest, error) {
	var dropped []repo.Digest
	err := s.write(ctx, "drop trees", func(tx *sql.Tx) error {
		for {
			idle, err := queryDigests(ctx, tx, `SELECT id FROM trees WHERE NOT EXISTS (SELECT 1 FROM environments WHERE tree = trees.id)
				AND NOT EXISTS (SELECT 1 FROM trees AS above WHERE above.base = trees.id)`)
			if err != nil {
				return err
			}
			more := false
			for _, id := range idle {
				if busy[id] {
					continue
				}
				if err := changedOne(tx.ExecContext(ctx, `DELETE FROM trees WHERE id = ?`, id[:])); err != nil {
					return err
				}
				dropped, more = append(dropped, id), true
			}
			if !more { // else those below may be idle now
				return nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return dropped, nil
}

// ForgetTrees removes the rows of trees that turned out to be lost, of all
// that lie on them, and of guests' references to them: they are built again
// when somebody asks. It returns the IDs of all of them.
func (s *State) ForgetTrees(ctx context.Context, ids []repo.Digest) ([]repo.Digest, error) {
	const above = `WITH RECURSIVE lost (id) AS (VALUES (?1) UNION SELECT trees.id FROM trees JOIN lost ON base = lost.id)
		SELECT trees.id FROM trees JOIN lost USING (id)`
	var forgotten []repo.Digest
	err := s.write(ctx, "forget lost trees", func(tx *sql.Tx) error {
		// A tree may go before those that lie on it.
		if _, err := tx.ExecContext(ctx, `PRAGMA defer_foreign_keys = ON`); err != nil {
			return err
		}
		for _, id := range ids {
			lost, err := queryDigests(ctx, tx, above, id[:])
			if err != nil {
				return err
			}
			for _, id := range lost {
				for _, statement := range []string{`DELETE FROM environments WHERE tree = ?`, `DELETE FROM trees WHERE id = ?`} {
					if _, err := tx.ExecContext(ctx, statement, id[:]); err != nil {
						return err
					}
				}
			}
			forgotten = append(forgotten, lost...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return forgotten, nil
}

// queryDigests returns a column of digests.
func queryDigests(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]repo.Digest, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var list []repo.Digest
	return list, each(rows, func() error {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return err
		}
		d, err := digest(b)
		list = append(list, d)
		return err
	})
}
