package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"stork/repo"
)

// Layer is the row of a layer. That there is one says that the layer is whole
// and durable (rule N2).
type Layer struct {
	ID       repo.Digest
	Staging  string      // the stage's name, from which it is moved to its place (rule N2)
	Manifest repo.Object // the file list
	Private  []repo.File // what each guest places for itself
	Stored   int64       // bytes of new objects
	Shared   int64       // bytes of objects that were there before
	Objects  int
	Fetched  int64 // bytes that came over the network

	// Whose package it is, as it was first asked for; nothing if that was
	// before there was a column for it.
	Repository repo.Digest
	Publisher  repo.Publisher
	Name       repo.Name
}

// AddLayer commits a filled layer as ready, and entitles the guests that wait
// for it; guests that are gone are left out. ErrExists if there is one of that
// ID.
func (s *State) AddLayer(ctx context.Context, l Layer, guests []string) error {
	private, err := jsonFiles(l.Private)
	if err != nil {
		return fmt.Errorf("cannot add layer: %w", err)
	}
	return s.write(ctx, "add layer", func(tx *sql.Tx) error {
		now := s.now().Unix()
		if _, err := tx.ExecContext(ctx, `INSERT INTO layers
			(id, staging, manifest, manifest_size, private, stored, shared, objects, fetched, created, used, repository, publisher, name)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, l.ID[:], l.Staging, l.Manifest.Digest[:], l.Manifest.Size,
			private, l.Stored, l.Shared, l.Objects, l.Fetched, now, now, l.Repository[:], string(l.Publisher), string(l.Name)); err != nil {
			return err
		}
		for _, guest := range guests {
			if _, err := tx.ExecContext(ctx, `INSERT INTO entitlements (guest, layer) SELECT name, ? FROM guests WHERE name = ?`,
				l.ID[:], guest); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveLayer removes the row of a layer and its entitlements (rule N4). The
// foreign key of references refuses it while a guest refers to the layer.
func (s *State) RemoveLayer(ctx context.Context, id repo.Digest) error {
	return s.write(ctx, "remove layer", func(tx *sql.Tx) error {
		return changedOne(tx.ExecContext(ctx, `DELETE FROM layers WHERE id = ?`, id[:]))
	})
}

// ForgetLayers removes the rows of layers that turned out to be lost, also
// if guests refer to them: they are fetched again when somebody asks.
func (s *State) ForgetLayers(ctx context.Context, ids []repo.Digest) error {
	return s.write(ctx, "forget lost layers", func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `DELETE FROM refs WHERE layer = ?`, id[:]); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM layers WHERE id = ?`, id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// UnusedBytes returns how many bytes of new objects came with the layers that
// no guest refers to.
func (s *State) UnusedBytes(ctx context.Context) (int64, error) {
	var bytes int64
	err := s.read(ctx, "count unused layers", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT coalesce(sum(stored), 0) FROM layers
			WHERE NOT EXISTS (SELECT 1 FROM refs WHERE refs.layer = layers.id)`).Scan(&bytes)
	})
	return bytes, err
}

const layerColumns = `id, staging, manifest, manifest_size, private, stored, shared, objects, fetched, repository, publisher, name`

// Layer returns the row of a layer, or ErrNotFound.
func (s *State) Layer(ctx context.Context, id repo.Digest) (*Layer, error) {
	var l *Layer
	err := s.read(ctx, "look up layer", func(tx *sql.Tx) (err error) {
		l, err = layer(ctx, tx, id)
		return err
	})
	return l, err
}

func layer(ctx context.Context, tx *sql.Tx, id repo.Digest) (*Layer, error) {
	return scanLayer(tx.QueryRowContext(ctx, `SELECT `+layerColumns+` FROM layers WHERE id = ?`, id[:]))
}

// Layers lists all layers by ID.
func (s *State) Layers(ctx context.Context) ([]*Layer, error) {
	return s.layers(ctx, `ORDER BY id`)
}

// LayersNamed lists the newest layers of packages of that name, whosever they
// are, the newest first, at most that many.
func (s *State) LayersNamed(ctx context.Context, name repo.Name, most int) ([]*Layer, error) {
	return s.layers(ctx, `WHERE name = ? ORDER BY created DESC, id LIMIT ?`, string(name), most)
}

func (s *State) layers(ctx context.Context, which string, arguments ...any) ([]*Layer, error) {
	var list []*Layer
	return list, s.read(ctx, "list layers", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+layerColumns+` FROM layers `+which, arguments...)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			l, err := scanLayer(rows)
			list = append(list, l)
			return err
		})
	})
}

func scanLayer(row interface{ Scan(...any) error }) (*Layer, error) {
	l := new(Layer)
	var id, manifest, repository []byte
	var private string
	err := row.Scan(&id, &l.Staging, &manifest, &l.Manifest.Size, &private, &l.Stored, &l.Shared, &l.Objects, &l.Fetched,
		&repository, &l.Publisher, &l.Name)
	if err != nil {
		return nil, err
	}
	if l.ID, err = digest(id); err != nil {
		return nil, err
	}
	if l.Manifest.Digest, err = digest(manifest); err != nil {
		return nil, err
	}
	if len(repository) > 0 {
		if l.Repository, err = digest(repository); err != nil {
			return nil, err
		}
	}
	l.Private, err = filesOf(private)
	return l, err
}

// LayerUsers returns how many guests refer to each layer that any refers to.
func (s *State) LayerUsers(ctx context.Context) (map[repo.Digest]int, error) {
	users := map[repo.Digest]int{}
	return users, s.read(ctx, "count users of layers", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT layer, count(*) FROM refs GROUP BY layer`)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var b []byte
			var n int
			if err := rows.Scan(&b, &n); err != nil {
				return err
			}
			id, err := digest(b)
			users[id] = n
			return err
		})
	})
}

// Bytes returns what the database takes on disk, in allocated blocks, with
// the log of what was written last.
func (s *State) Bytes() (int64, error) {
	var total int64
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(s.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot measure state: %w", err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		}
	}
	return total, nil
}
