package nest

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"stork/nestd/api"
	"stork/nestd/store"
	"stork/repo"
)

// Usage divides what the store's files take, on disk and in the page cache,
// among guests, and among their owners.
func (n *Nest) Usage(ctx context.Context) (*api.Usage, error) {
	guests, err := n.State.Guests(ctx)
	if err != nil {
		return nil, err
	}
	private, err := n.privatePaths(ctx)
	if err != nil {
		return nil, err
	}
	skip := func(layer repo.Digest, path string) bool { return private[layer][path] }
	report := &api.Usage{Guests: []api.Use{}, Owners: []api.Use{}}
	var ofGuests [][]repo.Digest
	byOwner := map[repo.Digest][]repo.Digest{}
	for _, g := range guests {
		layers, err := n.State.References(ctx, g.Name)
		if err != nil {
			return nil, err
		}
		ofGuests = append(ofGuests, layers)
		byOwner[g.Owner] = append(byOwner[g.Owner], layers...)
		report.Guests = append(report.Guests, api.Use{Guest: g.Name, Owner: g.Owner})
	}
	var ofOwners [][]repo.Digest
	for _, owner := range slices.SortedFunc(maps.Keys(byOwner), func(a, b repo.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		ofOwners = append(ofOwners, byOwner[owner])
		report.Owners = append(report.Owners, api.Use{Owner: owner})
	}
	if err := n.divide(ctx, ofGuests, skip, report.Guests); err != nil {
		return nil, err
	}
	return report, n.divide(ctx, ofOwners, skip, report.Owners)
}

func (n *Nest) divide(ctx context.Context, users [][]repo.Digest, skip func(repo.Digest, string) bool, into []api.Use) error {
	used, err := n.Store.UsageOf(ctx, users, skip)
	if err != nil {
		return err
	}
	for i := range used {
		into[i].Disk, into[i].Cache = shareOf(used[i].Disk), shareOf(used[i].Cache)
	}
	return nil
}

func shareOf(u store.Use) api.Share {
	return api.Share{Apparent: u.Apparent, Private: u.Private, Fair: u.Fair}
}

// privatePaths returns, by layer, what guests have copies of their own of.
func (n *Nest) privatePaths(ctx context.Context) (map[repo.Digest]map[string]bool, error) {
	layers, err := n.State.Layers(ctx)
	if err != nil {
		return nil, err
	}
	private := map[repo.Digest]map[string]bool{}
	for _, l := range layers {
		paths := map[string]bool{}
		for i := range l.Private {
			paths[l.Private[i].Path] = l.Private[i].Type != repo.Dir
		}
		private[l.ID] = paths
	}
	return private, nil
}
