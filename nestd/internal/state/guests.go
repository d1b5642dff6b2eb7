package state

import (
	"context"
	"database/sql"
	"encoding/json"

	"stork/repo"
)

// Guest is a registered guest.
type Guest struct {
	Name       string
	Owner      repo.Digest
	HostUserNS bool
	Packages   int // layers it refers to
	Placement  bool
	RootUser   uint32 // of a virtual machine: see [State.SetRootUser]; else 0
}

// AddGuest registers a guest; ErrExists if the name is taken.
func (s *State) AddGuest(ctx context.Context, g Guest) error {
	return s.write(ctx, "add guest", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO guests (name, owner, host_userns, placement, created) VALUES (?, ?, ?, ?, ?)`,
			g.Name, g.Owner[:], g.HostUserNS, g.Placement, s.now().Unix())
		return err
	})
}

// RemoveGuest removes a guest with its entitlements and references.
func (s *State) RemoveGuest(ctx context.Context, name string) error {
	return s.write(ctx, "remove guest", func(tx *sql.Tx) error {
		return changedOne(tx.ExecContext(ctx, `DELETE FROM guests WHERE name = ?`, name))
	})
}

// Guests lists the guests by name.
func (s *State) Guests(ctx context.Context) ([]Guest, error) {
	var list []Guest
	return list, s.read(ctx, "list guests", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT name, owner, host_userns, placement, root_user,
			(SELECT count(*) FROM refs WHERE guest = guests.name) FROM guests ORDER BY name`)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var g Guest
			var owner []byte
			if err := rows.Scan(&g.Name, &owner, &g.HostUserNS, &g.Placement, &g.RootUser, &g.Packages); err != nil {
				return err
			}
			if g.Owner, err = digest(owner); err != nil {
				return err
			}
			list = append(list, g)
			return nil
		})
	})
}

// Guest returns one guest, without counting its packages; ErrNotFound if
// there is none.
func (s *State) Guest(ctx context.Context, name string) (*Guest, error) {
	g := &Guest{Name: name}
	err := s.read(ctx, "look up guest", func(tx *sql.Tx) error {
		var owner []byte
		err := tx.QueryRowContext(ctx, `SELECT owner, host_userns, placement, root_user FROM guests WHERE name = ?`, name).
			Scan(&owner, &g.HostUserNS, &g.Placement, &g.RootUser)
		if err != nil {
			return err
		}
		g.Owner, err = digest(owner)
		return err
	})
	return g, err
}

// SetPlacement changes whether the nest places a guest's mounts; ErrNotFound if
// there is no such guest.
func (s *State) SetPlacement(ctx context.Context, name string, placement bool) error {
	return s.write(ctx, "change guest", func(tx *sql.Tx) error {
		return changedOne(tx.ExecContext(ctx, `UPDATE guests SET placement = ? WHERE name = ?`, placement, name))
	})
}

// usedEvery is how exactly, in seconds, the last use of a layer is known: so
// that an install of what is there costs no write to the disk.
const usedEvery = 3600

// Entitle notes that a guest was admitted for layers, and that they are used.
// A crash may lose that until the guest refers to one of them, as to what it
// has not prepared.
func (s *State) Entitle(ctx context.Context, guest string, layers []repo.Digest) error {
	return s.writeSoon(ctx, "entitle guest", func(tx *sql.Tx) error {
		for _, id := range layers {
			if err := entitle(ctx, tx, guest, id); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE layers SET used = ?1 WHERE id = ?2 AND used < ?1 - ?3`,
				s.now().Unix(), id[:], usedEvery); err != nil {
				return err
			}
		}
		return nil
	})
}

func entitle(ctx context.Context, tx *sql.Tx, guest string, id repo.Digest) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO entitlements (guest, layer) VALUES (?, ?)
		ON CONFLICT (guest, layer) DO NOTHING`, guest, id[:])
	return err
}

// NotEntitled returns those of layers that the guest was not admitted for.
func (s *State) NotEntitled(ctx context.Context, guest string, layers []repo.Digest) ([]repo.Digest, error) {
	var missing []repo.Digest
	return missing, s.read(ctx, "look up entitlements", func(tx *sql.Tx) error {
		for _, id := range layers {
			var one int
			err := tx.QueryRowContext(ctx, `SELECT 1 FROM entitlements WHERE guest = ? AND layer = ?`, guest, id[:]).Scan(&one)
			if err == sql.ErrNoRows {
				missing = append(missing, id)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// Refer adds references of a guest; ErrNotFound if guest or layer is not
// there.
func (s *State) Refer(ctx context.Context, guest string, layers []repo.Digest) error {
	return s.write(ctx, "add references", func(tx *sql.Tx) error { return refer(ctx, tx, guest, layers) })
}

// ReferMissing is Refer, and writes nothing if all is there already.
func (s *State) ReferMissing(ctx context.Context, guest string, layers []repo.Digest) error {
	have, err := s.References(ctx, guest)
	if err != nil {
		return err
	}
	known := map[repo.Digest]bool{}
	for _, id := range have {
		known[id] = true
	}
	var missing []repo.Digest
	for _, id := range layers {
		if !known[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.Refer(ctx, guest, missing)
}

func refer(ctx context.Context, tx *sql.Tx, guest string, layers []repo.Digest) error {
	for _, id := range layers {
		if _, err := tx.ExecContext(ctx, `INSERT INTO refs (guest, layer) VALUES (?, ?)
			ON CONFLICT (guest, layer) DO NOTHING`, guest, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// Unrefer drops references of a guest; those that are not there are no error.
func (s *State) Unrefer(ctx context.Context, guest string, layers []repo.Digest) error {
	return s.write(ctx, "drop references", func(tx *sql.Tx) error {
		for _, id := range layers {
			if _, err := tx.ExecContext(ctx, `DELETE FROM refs WHERE guest = ? AND layer = ?`, guest, id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetReferences replaces all references of a guest.
func (s *State) SetReferences(ctx context.Context, guest string, layers []repo.Digest) error {
	return s.write(ctx, "replace references", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM refs WHERE guest = ?`, guest); err != nil {
			return err
		}
		return refer(ctx, tx, guest, layers)
	})
}

// References lists what a guest refers to.
func (s *State) References(ctx context.Context, guest string) ([]repo.Digest, error) {
	var list []repo.Digest
	return list, s.read(ctx, "list references", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT layer FROM refs WHERE guest = ? ORDER BY layer`, guest)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var b []byte
			if err := rows.Scan(&b); err != nil {
				return err
			}
			d, err := digest(b)
			list = append(list, d)
			return err
		})
	})
}

// jsonFiles and filesOf store a layer's private files.
func jsonFiles(files []repo.File) (string, error) {
	if files == nil {
		files = []repo.File{}
	}
	b, err := json.Marshal(files)
	return string(b), err
}

func filesOf(text string) ([]repo.File, error) {
	var files []repo.File
	return files, json.Unmarshal([]byte(text), &files)
}
