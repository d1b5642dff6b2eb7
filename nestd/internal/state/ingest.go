package state

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"stork/repo"
)

// MissingShards returns the numbers of those shards of an index with 2^bits
// shards that the database does not have.
func (s *State) MissingShards(ctx context.Context, bits int, shards []repo.Object) ([]int, error) {
	var missing []int
	return missing, s.read(ctx, "look up shards", func(tx *sql.Tx) error {
		find, err := tx.PrepareContext(ctx, `SELECT id FROM shards WHERE digest = ? AND number = ? AND bits = ?`)
		if err != nil {
			return err
		}
		defer find.Close()
		for n := range shards {
			var id int64
			err := find.QueryRowContext(ctx, shards[n].Digest[:], n, bits).Scan(&id)
			if err == sql.ErrNoRows {
				missing = append(missing, n)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// AddShards inserts shards that MissingShards named. They are seen by no
// query until [State.AddIndex] lists them; what a crash leaves between the two
// is used by the next try, or dropped by [State.ShowIndexes]. Memory goes with
// the size of shards: callers bound a call by [Shard.Bytes].
func (s *State) AddShards(ctx context.Context, shards []*Shard) error {
	return s.write(ctx, "add index shards", func(tx *sql.Tx) error {
		var nextShard, nextPackage int64
		if err := tx.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(id), 0) FROM shards), (SELECT coalesce(max(id), 0) FROM packages)`).
			Scan(&nextShard, &nextPackage); err != nil {
			return err
		}
		var shardRows, packageRows [][]any
		var names [len(nameTables)][]nameRow
		for _, shard := range shards {
			nextShard++
			shardRows = append(shardRows, []any{nextShard, shard.object.Digest[:], shard.number, shard.bits})
			for i := range shard.packages {
				p := &shard.packages[i]
				nextPackage++
				packageRows = append(packageRows, []any{nextPackage, nextShard, p.name, p.record.Digest[:], p.record.Size, p.entry})
				for t, list := range p.names() {
					for _, name := range list {
						names[t] = append(names[t], nameRow{name, nextPackage})
					}
				}
			}
		}
		if err := insert(ctx, tx, "INSERT INTO shards (id, digest, number, bits) VALUES ", shardRows); err != nil {
			return err
		}
		if err := insert(ctx, tx, "INSERT INTO packages (id, shard, name, record, size, entry) VALUES ", packageRows); err != nil {
			return err
		}
		for t, table := range nameTables {
			if err := insertNames(ctx, tx, table, names[t]); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertNames inserts in the order of the table's key, so that the tree grows
// at its right edge as far as it is empty there.
func insertNames(ctx context.Context, tx *sql.Tx, table string, names []nameRow) error {
	slices.SortFunc(names, func(a, b nameRow) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
	})
	const batch = 4096
	rows := make([][]any, 0, min(batch, len(names)))
	for chunk := range slices.Chunk(names, batch) {
		rows = rows[:0]
		for _, n := range chunk {
			rows = append(rows, []any{n.name, n.id})
		}
		if err := insert(ctx, tx, "INSERT INTO "+table+" (name, package) VALUES ", rows); err != nil {
			return err
		}
	}
	return nil
}

// rowsPerStatement keeps one statement well under SQLite's limits; beyond a
// hundred rows more of them gain nothing.
const rowsPerStatement = 128

// insert runs one prepared statement for every rowsPerStatement rows.
func insert(ctx context.Context, tx *sql.Tx, into string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	tuple := "(" + strings.TrimSuffix(strings.Repeat("?,", len(rows[0])), ",") + "),"
	statement := func(n int) string { return into + strings.TrimSuffix(strings.Repeat(tuple, n), ",") }
	full, err := tx.PrepareContext(ctx, statement(rowsPerStatement))
	if err != nil {
		return err
	}
	defer full.Close()
	args := make([]any, 0, rowsPerStatement*len(rows[0]))
	for chunk := range slices.Chunk(rows, rowsPerStatement) {
		args = args[:0]
		for _, row := range chunk {
			args = append(args, row...)
		}
		if len(chunk) == rowsPerStatement {
			_, err = full.ExecContext(ctx, args...)
		} else {
			_, err = tx.ExecContext(ctx, statement(len(chunk)), args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
