package state

import (
	"context"
	"database/sql"
	"errors"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// Offer is what there is of a package that a guest names. Layer is nil unless
// its layer has a row.
type Offer struct {
	Layer *Layer
	entry []byte
}

// Admitted reports whether the package is in the current or previous index of
// that publisher of that repository under that name.
func (o *Offer) Admitted() bool { return o.entry != nil }

// Entry returns the package's index entry. It must be admitted.
func (o *Offer) Entry() (*index.Entry, error) {
	e := new(index.Entry)
	return e, repo.DecodeStrict(o.entry, e)
}

// Offers returns what there is of each of refs, at one moment.
func (s *State) Offers(ctx context.Context, refs []api.PackageRef) ([]Offer, error) {
	offers := make([]Offer, len(refs))
	return offers, s.read(ctx, "look up packages", func(tx *sql.Tx) error {
		for i := range refs {
			err := admitted(ctx, tx, &refs[i]).Scan(&offers[i].entry)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			offers[i].Layer, err = layer(ctx, tx, refs[i].ID)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		return nil
	})
}

func admitted(ctx context.Context, tx *sql.Tx, ref *api.PackageRef) *sql.Row {
	return tx.QueryRowContext(ctx, `SELECT p.entry FROM packages p
		JOIN index_shards l ON l.shard = p.shard JOIN indexes x ON x.id = l.idx
		WHERE p.record = ? AND p.name = ? AND x.repository = ? AND x.publisher = ? AND x.rank < ? LIMIT 1`,
		ref.ID[:], string(ref.Name), ref.Repository[:], string(ref.Publisher), rankAdded)
}
