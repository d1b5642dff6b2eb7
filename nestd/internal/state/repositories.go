package state

import (
	"context"
	"database/sql"

	"stork/nestd/api"
	"stork/repo"
)

// AddRepository pins a repository. Its address may change later, its root
// may not: a root that is there already gets the new address.
func (s *State) AddRepository(ctx context.Context, pin api.RepositoryPin) error {
	return s.write(ctx, "add repository", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO repositories (root, url) VALUES (?, ?)
			ON CONFLICT (root) DO UPDATE SET url = excluded.url`, pin.Root[:], pin.URL)
		return err
	})
}

// Repositories lists the repositories in order of their roots.
func (s *State) Repositories(ctx context.Context) ([]api.RepositoryStatus, error) {
	list := []api.RepositoryStatus{}
	return list, s.read(ctx, "list repositories", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT root, url, checked, expires, version, error FROM repositories ORDER BY root`)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var r api.RepositoryStatus
			var root []byte
			if err := rows.Scan(&root, &r.URL, &r.Checked, &r.Expires, &r.Version, &r.Error); err != nil {
				return err
			}
			if r.Root, err = digest(root); err != nil {
				return err
			}
			list = append(list, r)
			return nil
		})
	})
}

// SetRepositoryStatus records how a refresh went.
func (s *State) SetRepositoryStatus(ctx context.Context, r api.RepositoryStatus) error {
	return s.write(ctx, "record repository status", func(tx *sql.Tx) error {
		return changedOne(tx.ExecContext(ctx, `UPDATE repositories SET checked = ?, expires = ?, version = ?, error = ? WHERE root = ?`,
			r.Checked, r.Expires, r.Version, r.Error, r.Root[:]))
	})
}

// each calls visit for every row and closes rows.
func each(rows *sql.Rows, visit func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := visit(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// changedOne is ErrNotFound if a statement changed no row.
func changedOne(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// AddFetched counts bytes of blobs that came over the network.
func (s *State) AddFetched(ctx context.Context, bytes int64) error {
	return s.write(ctx, "count fetched bytes", func(tx *sql.Tx) error { return addFetched(ctx, tx, bytes) })
}

func addFetched(ctx context.Context, tx *sql.Tx, bytes int64) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO counters (name, value) VALUES ('bytes_fetched', ?)
		ON CONFLICT (name) DO UPDATE SET value = value + excluded.value`, bytes)
	return err
}

// Fetched returns what AddFetched and AddLayer have counted since init.
func (s *State) Fetched(ctx context.Context) (bytes int64, err error) {
	return bytes, s.read(ctx, "read counters", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'bytes_fetched'`).Scan(&bytes)
	})
}

// Bound notes documents that a verified parent names, so that they may be
// fetched on demand.
func (s *State) Bound(ctx context.Context, objects []repo.Object) error {
	return s.write(ctx, "note documents", func(tx *sql.Tx) error {
		for _, o := range objects {
			if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO bounds (digest, size) VALUES (?, ?)`, o.Digest[:], o.Size); err != nil {
				return err
			}
		}
		return nil
	})
}

// SizeOf returns the size of a document that an index or [State.Bound] has
// named, else ErrNotFound.
func (s *State) SizeOf(ctx context.Context, d repo.Digest) (size int64, err error) {
	return size, s.read(ctx, "look up document", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT size FROM (SELECT size FROM packages WHERE record = ?1
			UNION ALL SELECT size FROM bounds WHERE digest = ?1) LIMIT 1`, d[:]).Scan(&size)
	})
}
