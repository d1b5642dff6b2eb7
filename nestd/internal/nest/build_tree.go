package nest

import (
	"context"
	"errors"
	"fmt"

	"stork/nestd/internal/attach"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/repo"
)

// errTooDifferent says that a delta tree would hold too much.
var errTooDifferent = errors.New("too much differs")

// build has the planned tree in its place when it returns nil. However many
// guests ask for a tree, it is built once; when none of them waits any more
// the work stops.
func (n *Nest) build(ctx context.Context, guest string, p *plan) error {
	if _, placed := n.Store.Layer(p.id); placed {
		// Pinned and with a row, or on its way out.
		if _, err := n.State.Tree(ctx, p.id); !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	for _, id := range p.want.layers {
		if _, placed := n.Store.Layer(id); !placed {
			return fmt.Errorf("cannot build environment: layer %s is not in its place: %w", id.Short(), attach.ErrNoLayer)
		}
	}
	j, _ := n.join(guest, p.id, func(ctx context.Context, _ *job) error { return n.buildTree(ctx, p) })
	defer n.leave(guest, j)
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Nest) buildTree(ctx context.Context, p *plan) error {
	if err := n.trees.waitForRoom(ctx, p.id); err != nil {
		return err
	}
	release, err := take(ctx, n.trees.merges)
	if err != nil {
		return err
	}
	defer release()
	if there, err := n.placeTreeAgain(ctx, p.id); there || err != nil {
		return err
	}
	stage, err := n.Store.Stage()
	if err != nil {
		return err
	}
	done, err := n.mergeTree(ctx, stage, p)
	if !done {
		err = errors.Join(err, stage.Discard())
	}
	return err
}

// placeTreeAgain finishes a tree whose row is committed, and reports whether
// there was one. What lies in its place without a row is the rest of a removal.
func (n *Nest) placeTreeAgain(ctx context.Context, id repo.Digest) (bool, error) {
	n.trees.commit.Lock()
	defer n.trees.commit.Unlock()
	_, placed := n.Store.Layer(id)
	if _, err := n.State.Tree(ctx, id); err != nil {
		if !errors.Is(err, state.ErrNotFound) {
			return false, err
		}
		if placed {
			err = n.Store.Remove(ctx, id)
			return false, err
		}
		return false, nil
	}
	if placed {
		return true, nil
	}
	n.jobs.mu.Lock()
	stage := n.jobs.unplaced[id]
	n.jobs.mu.Unlock()
	if stage == nil {
		return false, fmt.Errorf("cannot place environment %s: its stage is gone; restart nestd", id.Short())
	}
	if err := stage.Place(ctx, id); err != nil {
		return false, err
	}
	n.jobs.mu.Lock()
	delete(n.jobs.unplaced, id)
	n.jobs.mu.Unlock()
	return true, nil
}

// mergeTree fills the stage, commits and places (rule N2). done says that the
// row is committed, and so the stage must stay for whoever places it.
func (n *Nest) mergeTree(ctx context.Context, stage *store.Stage, p *plan) (done bool, err error) {
	tree := state.Tree{
		ID: p.id, Environment: p.want.id, Staging: stage.Name(), Aliases: p.want.aliases, Layers: p.want.layers,
	}
	if p.base != nil {
		tree.Base = &p.base.ID
	}
	result, err := stage.Merge(ctx, n.mergeOf(p))
	if err != nil {
		return false, err
	}
	tree.Entries = result.Entries()
	if p.base != nil && 2*(p.base.deltas+tree.Entries) > p.base.files {
		return false, errTooDifferent
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// From the row on it is finished whatever happens.
	ctx = context.WithoutCancel(ctx)
	n.trees.commit.Lock()
	defer n.trees.commit.Unlock()
	err = n.State.AddTree(ctx, tree)
	if errors.Is(err, state.ErrExists) {
		return false, nil // of a job that everybody had left, and that was faster
	}
	if err != nil {
		return false, err
	}
	if err := stage.Place(ctx, p.id); err != nil {
		n.jobs.mu.Lock()
		n.jobs.unplaced[p.id] = stage
		n.jobs.mu.Unlock()
		return true, err
	}
	return true, nil
}

// mergeOf says what the planned tree is made of.
func (n *Nest) mergeOf(p *plan) store.Merge {
	if p.base == nil {
		return store.Merge{Add: n.members(p.want.layers), Aliases: p.want.aliases}
	}
	drop := difference(p.base.Layers, p.want.layers)
	return store.Merge{
		Base: p.stack()[1:], Aliases: p.want.aliases, Drop: n.members(drop),
		Add: n.members(difference(p.want.layers, p.base.Layers)), Keep: n.members(difference(p.base.Layers, drop)),
	}
}

// members are layers as they take part in a merge.
func (n *Nest) members(ids []repo.Digest) []store.Member {
	list := make([]store.Member, len(ids))
	for i, id := range ids {
		list[i] = store.Member{ID: id, Private: func() ([]string, error) {
			layer, err := n.State.Layer(n.life, id)
			if err != nil {
				return nil, err
			}
			paths := make([]string, len(layer.Private))
			for i := range layer.Private {
				paths[i] = layer.Private[i].Path
			}
			return paths, nil
		}}
	}
	return list
}
