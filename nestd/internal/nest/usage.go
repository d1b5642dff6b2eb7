package nest

import (
	"context"
	"slices"
	"time"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/repo"
)

// Bounds of looking at what guests have written: names and time for one
// guest, and time for all of them.
const (
	maxOwnNames     = 250_000
	maxOwnTime      = 2 * time.Second
	maxOwnTimeOfAll = 20 * time.Second
)

// Usage divides what the store's files take, on disk and in the page cache,
// among guests, and among their owners, and adds what guests have in the
// directories that the nest provides.
func (n *Nest) Usage(ctx context.Context) (*api.Usage, error) {
	guests, err := n.State.Guests(ctx)
	if err != nil {
		return nil, err
	}
	division, err := n.division(ctx, guests)
	if err != nil {
		return nil, err
	}
	owners, ownerOf := ownersOf(guests)
	report := &api.Usage{Guests: make([]api.Use, len(guests)), Owners: make([]api.Use, len(owners))}
	for i, used := range division.Among(len(guests), func(guest int) int { return guest }) {
		report.Guests[i] = api.Use{Guest: guests[i].Name, Owner: guests[i].Owner, Disk: shareOf(used.Disk), Cache: shareOf(used.Cache)}
	}
	for i, used := range division.Among(len(owners), func(guest int) int { return ownerOf[guest] }) {
		report.Owners[i] = api.Use{Owner: owners[i], Disk: shareOf(used.Disk), Cache: shareOf(used.Cache)}
	}
	report.Unused.Disk, report.Unused.Cache = division.Unused()
	all, cancel := context.WithTimeout(ctx, maxOwnTimeOfAll)
	defer cancel()
	for i := range guests {
		own, err := n.own(all, guests[i].Name)
		if err != nil {
			return nil, err
		}
		addOwn(&report.Guests[i], own)
		addOwn(&report.Owners[ownerOf[i]], own)
	}
	return report, ctx.Err()
}

// division says what the guests have of the store.
func (n *Nest) division(ctx context.Context, guests []state.Guest) (*store.Division, error) {
	private, err := n.privatePaths(ctx)
	if err != nil {
		return nil, err
	}
	users := make([][]repo.Digest, len(guests))
	for i := range guests {
		layers, err := n.State.References(ctx, guests[i].Name)
		if err != nil {
			return nil, err
		}
		trees, err := n.State.GuestTrees(ctx, guests[i].Name)
		if err != nil {
			return nil, err
		}
		users[i] = slices.Concat(layers, trees)
	}
	skip := func(layer repo.Digest, path string) bool { return private[layer][path] }
	return n.Store.Divide(ctx, users, skip)
}

// ownersOf returns the guests' owners, sorted, and for each guest which of
// them is its.
func ownersOf(guests []state.Guest) (owners []repo.Digest, ownerOf []int) {
	less := func(a, b repo.Digest) int { return slices.Compare(a[:], b[:]) }
	for i := range guests {
		owners = append(owners, guests[i].Owner)
	}
	slices.SortFunc(owners, less)
	owners = slices.Compact(owners)
	for i := range guests {
		place, _ := slices.BinarySearchFunc(owners, guests[i].Owner, less)
		ownerOf = append(ownerOf, place)
	}
	return owners, ownerOf
}

// own measures what is a guest's own on the nest's disk.
func (n *Nest) own(ctx context.Context, guest string) (ownTree, error) {
	ctx, cancel := context.WithTimeout(ctx, maxOwnTime)
	defer cancel()
	return measureTree(ctx, n.ownDir(guest), maxOwnNames)
}

// addOwn adds what nobody else has to a part.
func addOwn(u *api.Use, own ownTree) {
	u.Own.Files += own.files
	u.Own.Disk += own.disk
	u.Own.Cache += own.cache
	u.Own.Partial = u.Own.Partial || own.partial
	for _, share := range []struct {
		of    *api.Share
		bytes int64
	}{{&u.Disk, own.disk}, {&u.Cache, own.cache}} {
		share.of.Apparent += share.bytes
		share.of.Private += share.bytes
		share.of.Fair += share.bytes
	}
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
