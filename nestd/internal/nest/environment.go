package nest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/repo"
)

// Environment gives a guest one merged tree of all its packages, as a stack of
// directories in its view. The reference is committed before (rule N3); trees
// that the guest does not refer to any more are taken out of the view. A
// guest's requests wait for each other.
func (n *Nest) Environment(ctx context.Context, guest string, peer *attach.Peer, request api.EnvironmentRequest) (*api.EnvironmentResponse, error) {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return nil, err
	}
	want, err := wantedOf(request)
	if err != nil {
		return nil, err
	}
	release, err := n.trees.enter(ctx, guest)
	if err != nil {
		return nil, err
	}
	defer release()
	stack, err := n.refersTo(ctx, guest, want, request.Keep)
	if err != nil {
		return nil, err
	}
	defer n.trees.dropSoon()
	identity := attach.Identity{HostUserNS: g.HostUserNS}
	response := &api.EnvironmentResponse{ID: want.id, Trees: []string{}}
	if len(stack) > 0 {
		if err := n.Attacher.Attach(ctx, peer, identity, n.viewDir(guest), request.View, hexes(stack)); err != nil {
			return nil, err
		}
		for _, tree := range stack {
			response.Trees = append(response.Trees, path.Join(request.View, tree.Hex()))
		}
	}
	n.quicken(guest)
	return response, n.detachOld(ctx, guest, peer, identity, request.View)
}

// refersTo makes the environment the one that the guest refers to, built if
// it is not there, and returns its trees, topmost first.
func (n *Nest) refersTo(ctx context.Context, guest string, want *wanted, keep []repo.Digest) ([]repo.Digest, error) {
	if len(want.layers) == 0 {
		return nil, n.State.SetEnvironment(ctx, guest, nil, keep)
	}
	stack, unpin, err := n.stackFor(ctx, guest, want)
	if err != nil {
		return nil, err
	}
	// Until the reference is there nothing else keeps the trees.
	defer unpin()
	return stack, n.State.SetEnvironment(ctx, guest, &stack[0], keep)
}

// detachOld takes every tree out of the view that the guest does not refer to.
func (n *Nest) detachOld(ctx context.Context, guest string, peer *attach.Peer, identity attach.Identity, view string) error {
	names, err := attach.AttachedLayers(n.viewDir(guest))
	if err != nil {
		return err
	}
	kept, err := n.State.GuestTrees(ctx, guest)
	if err != nil {
		return err
	}
	var others []repo.Digest
	for _, name := range names {
		id, err := repo.ParseHex(name)
		if err != nil {
			return err
		}
		if !slices.Contains(kept, id) {
			others = append(others, id)
		}
	}
	// What is there and no layer was a tree, be it still the nest's or not.
	old, err := n.State.NoLayers(ctx, others)
	if err != nil || len(old) == 0 {
		return err
	}
	return n.Attacher.Detach(ctx, peer, identity, n.viewDir(guest), view, hexes(old))
}

// wanted is an environment that a guest asks for.
type wanted struct {
	id      repo.Digest
	layers  []repo.Digest // sorted, each once
	aliases map[string]string
}

// wantedOf refuses what no client sends.
func wantedOf(request api.EnvironmentRequest) (*wanted, error) {
	switch {
	case len(request.Packages) > api.MaxEnvironmentPackages:
		return nil, fmt.Errorf("cannot build an environment of %d packages: %w", len(request.Packages), errTooMany)
	case len(request.Aliases) > api.MaxAliases:
		return nil, fmt.Errorf("cannot build an environment with %d aliases: %w", len(request.Aliases), errTooMany)
	case len(request.Keep) > api.MaxKeep:
		return nil, fmt.Errorf("cannot keep %d environments: %w", len(request.Keep), errTooMany)
	}
	if err := checkLayers(nil, request.View); err != nil {
		return nil, err
	}
	if err := store.CheckAliases(request.Aliases); err != nil {
		return nil, fmt.Errorf("cannot build environment: %w", err)
	}
	w := &wanted{layers: slices.Clone(request.Packages), aliases: request.Aliases}
	slices.SortFunc(w.layers, compareDigests)
	w.layers = slices.Compact(w.layers)
	w.id = treeID(w.layers, w.aliases, nil)
	return w, nil
}

func compareDigests(a, b repo.Digest) int { return slices.Compare(a[:], b[:]) }

// stackFor returns the trees that show the environment to the guest, topmost
// first, built if they are not there. Until unpin is called they stay.
func (n *Nest) stackFor(ctx context.Context, guest string, want *wanted) (stack []repo.Digest, unpin func(), err error) {
	entitled, err := n.State.Entitled(ctx, guest)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range want.layers {
		if !entitled[id] {
			return nil, nil, fmt.Errorf("cannot build environment: guest %s has not prepared %s: %w", guest, id.Short(), attach.ErrNotEntitled)
		}
	}
	plan, err := n.plan(ctx, guest, want, entitled)
	if err != nil {
		return nil, nil, err
	}
	err = n.build(ctx, guest, plan)
	if plan.base != nil && (errors.Is(err, errTooDifferent) || errors.Is(err, store.ErrTooLarge)) {
		plan.unpin()
		plan = n.planWhole(want)
		err = n.build(ctx, guest, plan)
	}
	if err != nil {
		plan.unpin()
		return nil, nil, n.nameConflict(ctx, err)
	}
	return plan.stack(), plan.unpin, nil
}

// nameConflict tells the names of packages that are in conflict.
func (n *Nest) nameConflict(ctx context.Context, err error) error {
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	var names [2]string
	for i, id := range conflict.Layers {
		name, err := n.State.PackageName(ctx, id)
		if errors.Is(err, state.ErrNotFound) {
			name, err = "package "+id.Short(), nil
		}
		if err != nil {
			return err
		}
		names[i] = name
	}
	return fmt.Errorf("cannot build environment: %s and %s have different things at %s: %w", names[0], names[1], conflict.Path, errConflict)
}
