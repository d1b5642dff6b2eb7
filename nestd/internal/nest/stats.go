package nest

import (
	"context"
	"math"

	"stork/nestd/api"
	"stork/nestd/store"
	"stork/repo"
)

// StoreStats says what the store holds, and what sharing saves.
func (n *Nest) StoreStats(ctx context.Context) (*api.StoreStats, error) {
	trees, err := n.State.Trees(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]repo.Digest, len(trees))
	for i := range trees {
		ids[i] = trees[i].ID
	}
	layers, err := n.packaged(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := n.Store.Stats(ctx, layers, ids, n.Private)
	if err != nil {
		return nil, err
	}
	documents, err := measureTree(ctx, n.documents.dir, math.MaxInt)
	if err != nil {
		return nil, err
	}
	database, err := n.State.Bytes()
	if err != nil {
		return nil, err
	}
	return &api.StoreStats{
		Bytes:  stats.Stored.Bytes + stats.LayerBytes + stats.TreeBytes,
		Layers: len(layers), Objects: stats.Stored.Files, Trees: len(trees), Unread: stats.Unread,
		ApparentBytes: stats.Packaged.Bytes + stats.LayerBytes,
		Packaged:      api.Amount(stats.Packaged), Stored: api.Amount(stats.Stored),
		Saved: api.Savings{
			Within: api.Amount(stats.Within), Versions: api.Amount(stats.Versions),
			Packages: api.Amount(stats.Packages), Publishers: api.Amount(stats.Publishers),
		},
		LinkCopies: api.Amount(stats.Copies), Loose: api.Amount(stats.Loose),
		Times: api.Amount(stats.Times), Modes: api.Amount(stats.Modes), Guests: api.Amount(stats.Users),
		LayerBytes: stats.LayerBytes, TreeBytes: stats.TreeBytes, ObjectDirBytes: stats.ObjectBytes,
		DocumentBytes: documents.disk, DatabaseBytes: database,
	}, ctx.Err()
}

// packaged says whose package each layer is. A package that nobody remembers
// is one of its own.
func (n *Nest) packaged(ctx context.Context) ([]store.Packaged, error) {
	rows, err := n.State.Layers(ctx)
	if err != nil {
		return nil, err
	}
	users, err := n.State.LayerUsers(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]store.Packaged, len(rows))
	for i, row := range rows {
		list[i] = store.Packaged{
			ID: row.ID, Publisher: row.Repository.Hex() + " " + string(row.Publisher), Name: string(row.Name), Users: users[row.ID],
			List: func() (*repo.FileList, error) {
				text, err := n.documents.held(row.Manifest.Digest)
				if err != nil {
					return nil, err
				}
				return repo.DecodeFileList(text)
			},
		}
		if row.Name == "" {
			list[i].Name = row.ID.Hex()
		}
	}
	return list, nil
}
