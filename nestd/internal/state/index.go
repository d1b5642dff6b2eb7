package state

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"stork/repo"
	"stork/repo/index"
)

// Index is a whole index, all of whose shards have been added.
type Index struct {
	Object     repo.Object // the index root
	Repository repo.Digest
	Publisher  repo.Publisher
	Bits       int
	Shards     []repo.Object
	Documents  index.Documents // root and tables
}

// AddIndex lists an index. Guests are admitted by it once ShowIndexes has
// made it current. That it is there already is no error.
func (s *State) AddIndex(ctx context.Context, x Index) error {
	return s.write(ctx, "add index", func(tx *sql.Tx) error {
		var there int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM indexes WHERE digest = ?`, x.Object.Digest[:]).Scan(&there); err != nil || there > 0 {
			return err
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO indexes (digest, repository, publisher, rank) VALUES (?, ?, ?, ?)`,
			x.Object.Digest[:], x.Repository[:], string(x.Publisher), rankAdded)
		if err != nil {
			return err
		}
		id, err := result.LastInsertId()
		if err != nil {
			return err
		}
		if err := addIndexShards(ctx, tx, id, x); err != nil {
			return err
		}
		for d, text := range x.Documents {
			if _, err := tx.ExecContext(ctx, `INSERT INTO index_documents (idx, digest, text) VALUES (?, ?, ?)`, id, d[:], text); err != nil {
				return err
			}
		}
		return nil
	})
}

func addIndexShards(ctx context.Context, tx *sql.Tx, id int64, x Index) error {
	add, err := tx.PrepareContext(ctx, `INSERT INTO index_shards (idx, shard)
		SELECT ?, id FROM shards WHERE digest = ? AND number = ? AND bits = ?`)
	if err != nil {
		return err
	}
	defer add.Close()
	for n := range x.Shards {
		if err := changedOne(add.ExecContext(ctx, id, x.Shards[n].Digest[:], n, x.Bits)); err != nil {
			return fmt.Errorf("shard %d: %w", n, err)
		}
	}
	return nil
}

// The ranks of an index.
const (
	rankCurrent  = 0 // what guests see
	rankPrevious = 1 // what guests saw just before, and may be installing from
	rankAdded    = 2 // not shown yet
)

// ShowIndexes makes exactly those indexes, by the digests of their roots, the
// current ones of a repository. Those that were current are kept as the
// previous ones; older ones go, and every shard that no index lists. An index
// of a publisher who has no current one goes at the second call, unless keep
// names the publisher.
func (s *State) ShowIndexes(ctx context.Context, repository repo.Digest, roots []repo.Digest, keep []repo.Publisher) error {
	return s.write(ctx, "show indexes", func(tx *sql.Tx) error {
		changed, err := rerank(ctx, tx, repository, roots, keep)
		if err != nil || !changed {
			return err
		}
		return dropUnused(ctx, tx)
	})
}

// indexRow is an index as rerank sees it.
type indexRow struct {
	id        int64
	publisher string
	rank      int
	shown     bool // it is to be current
}

// rerank reports whether an index was dropped or shown.
func rerank(ctx context.Context, tx *sql.Tx, repository repo.Digest, roots []repo.Digest, keep []repo.Publisher) (bool, error) {
	all, err := indexRows(ctx, tx, repository, roots)
	if err != nil {
		return false, err
	}
	moved := map[string]bool{} // publishers whose current index is another now
	stays := map[string]bool{} // publishers whose previous index may stay
	for _, p := range keep {
		stays[string(p)] = true
	}
	for _, r := range all {
		if (r.rank == rankCurrent) != r.shown {
			moved[r.publisher] = true
		}
		stays[r.publisher] = stays[r.publisher] || r.shown
	}
	changed := false
	for _, r := range all {
		rank := r.rank
		switch {
		case r.shown:
			rank = rankCurrent
		case r.rank == rankCurrent:
			rank = rankPrevious
		case r.rank == rankAdded || moved[r.publisher] || !stays[r.publisher]:
			changed = true
			if _, err := tx.ExecContext(ctx, `DELETE FROM indexes WHERE id = ?`, r.id); err != nil {
				return false, err
			}
			continue
		}
		if rank == r.rank {
			continue
		}
		changed = true
		if _, err := tx.ExecContext(ctx, `UPDATE indexes SET rank = ? WHERE id = ?`, rank, r.id); err != nil {
			return false, err
		}
	}
	return changed, nil
}

func indexRows(ctx context.Context, tx *sql.Tx, repository repo.Digest, roots []repo.Digest) ([]indexRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, publisher, rank, digest FROM indexes WHERE repository = ?`, repository[:])
	if err != nil {
		return nil, err
	}
	var all []indexRow
	return all, each(rows, func() error {
		var r indexRow
		var d []byte
		if err := rows.Scan(&r.id, &r.publisher, &r.rank, &d); err != nil {
			return err
		}
		r.shown = slices.ContainsFunc(roots, func(root repo.Digest) bool { return bytes.Equal(root[:], d) })
		all = append(all, r)
		return nil
	})
}

// dropUnused removes shards that no index lists, with their packages and
// names.
func dropUnused(ctx context.Context, tx *sql.Tx) error {
	const unused = `SELECT id FROM shards WHERE NOT EXISTS (SELECT 1 FROM index_shards WHERE shard = shards.id)`
	rows, err := tx.QueryContext(ctx, `SELECT id, entry FROM packages WHERE shard IN (`+unused+`)`)
	if err != nil {
		return err
	}
	var names [len(nameTables)][]nameRow
	if err := each(rows, func() error {
		var id int64
		var raw []byte
		if err := rows.Scan(&id, &raw); err != nil {
			return err
		}
		return collectNames(&names, id, raw)
	}); err != nil {
		return err
	}
	for t, table := range nameTables {
		if err := deleteNames(ctx, tx, table, names[t]); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM packages WHERE shard IN (`+unused+`)`); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM shards WHERE id IN (`+unused+`)`)
	return err
}

func collectNames(names *[len(nameTables)][]nameRow, id int64, raw []byte) error {
	var e index.Entry
	if err := repo.DecodeStrict(raw, &e); err != nil {
		return err
	}
	row, err := rowOf(&e, raw)
	if err != nil {
		return err
	}
	for t, list := range row.names() {
		for _, name := range list {
			names[t] = append(names[t], nameRow{name, id})
		}
	}
	return nil
}

func deleteNames(ctx context.Context, tx *sql.Tx, table string, names []nameRow) error {
	drop, err := tx.PrepareContext(ctx, `DELETE FROM `+table+` WHERE name = ? AND package = ?`)
	if err != nil {
		return err
	}
	defer drop.Close()
	for _, n := range names {
		if _, err := drop.ExecContext(ctx, n.name, n.id); err != nil {
			return err
		}
	}
	return nil
}

// HasIndex reports whether the index with that root is listed, shown or not.
func (s *State) HasIndex(ctx context.Context, root repo.Digest) (bool, error) {
	var n int
	err := s.read(ctx, "look up index", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM indexes WHERE digest = ?`, root[:]).Scan(&n)
	})
	return n > 0, err
}

// Shown is an index that guests see.
type Shown struct {
	Repository repo.Digest
	Publisher  repo.Publisher
	Root       repo.Digest
}

// ShownIndexes lists the indexes that guests see.
func (s *State) ShownIndexes(ctx context.Context) ([]Shown, error) {
	var all []Shown
	return all, s.read(ctx, "list indexes", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT repository, publisher, digest FROM indexes WHERE rank = ? ORDER BY repository, publisher`, rankCurrent)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var x Shown
			var repository, root []byte
			if err := rows.Scan(&repository, &x.Publisher, &root); err != nil {
				return err
			}
			if x.Repository, err = digest(repository); err != nil {
				return err
			}
			x.Root, err = digest(root)
			all = append(all, x)
			return err
		})
	})
}

// IndexOf returns whose index that root is, or ErrNotFound.
func (s *State) IndexOf(ctx context.Context, root repo.Digest) (repository repo.Digest, publisher repo.Publisher, err error) {
	err = s.read(ctx, "look up index", func(tx *sql.Tx) error {
		var d []byte
		if err := tx.QueryRowContext(ctx, `SELECT repository, publisher FROM indexes WHERE digest = ?`, root[:]).Scan(&d, &publisher); err != nil {
			return err
		}
		repository, err = digest(d)
		return err
	})
	return repository, publisher, err
}

// IndexDocument returns the text of a root, a table or a shard, or
// ErrNotFound. Shards are put together from their entries: the text is
// canonical, so there is only one way.
func (s *State) IndexDocument(ctx context.Context, d repo.Digest) ([]byte, error) {
	var text []byte
	err := s.read(ctx, "read index document", func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT text FROM index_documents WHERE digest = ? LIMIT 1`, d[:]).Scan(&text)
		if err != sql.ErrNoRows {
			return err
		}
		var id int64
		if err := tx.QueryRowContext(ctx, `SELECT id FROM shards WHERE digest = ? LIMIT 1`, d[:]).Scan(&id); err != nil {
			return err
		}
		text, err = shardText(ctx, tx, id)
		return err
	})
	return text, err
}

func shardText(ctx context.Context, tx *sql.Tx, id int64) ([]byte, error) {
	rows, err := tx.QueryContext(ctx, `SELECT entry FROM packages WHERE shard = ? ORDER BY id`, id)
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, `{"format":%d,"packages":[`, index.Format)
	comma := false
	err = each(rows, func() error {
		var entry sql.RawBytes
		if err := rows.Scan(&entry); err != nil {
			return err
		}
		if comma {
			text = append(text, ',')
		}
		comma = true
		text = append(text, entry...)
		return nil
	})
	return append(text, "]}"...), err
}
