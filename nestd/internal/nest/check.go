package nest

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
)

// FormatKey writes a nest's public key as `stork-repo nest add` takes it.
func FormatKey(key ed25519.PublicKey) string {
	return "ed25519:" + base64.StdEncoding.EncodeToString(key)
}

// Check compares every layer with the file list that its publisher signed,
// every object with its name, and the rows with what is there.
func (n *Nest) Check(ctx context.Context) (*api.CheckReport, error) {
	layers, err := n.State.Layers(ctx)
	if err != nil {
		return nil, err
	}
	report := &api.CheckReport{Problems: []string{}}
	rows := map[repo.Digest]bool{}
	for _, l := range layers {
		rows[l.ID] = true
		if _, placed := n.Store.Layer(l.ID); !placed {
			report.Problems = append(report.Problems, fmt.Sprintf("layer %s is ready but not in its place", l.ID))
			continue
		}
		problems, err := n.checkLayer(ctx, l.ID, l.Manifest)
		if err != nil {
			return nil, err
		}
		report.Problems = append(report.Problems, problems...)
		report.Layers++
	}
	if err := n.checkTrees(ctx, report, rows); err != nil {
		return nil, err
	}
	placed, err := n.Store.Layers()
	if err != nil {
		return nil, err
	}
	for _, id := range placed {
		if !rows[id] && !n.knows(ctx, id) { // it may have come or gone while we checked
			report.Problems = append(report.Problems, fmt.Sprintf("layer %s has no row", id))
		}
	}
	objects, problems := n.Store.CheckObjects(ctx)
	report.Objects = objects
	report.Problems = append(report.Problems, problems...)
	return report, ctx.Err()
}

func (n *Nest) checkLayer(ctx context.Context, id repo.Digest, manifest repo.Object) ([]string, error) {
	text, err := n.documents.held(manifest.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{fmt.Sprintf("layer %s: its file list is lost or damaged", id)}, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := repo.DecodeFileList(text)
	if err != nil {
		return []string{fmt.Sprintf("layer %s: %v", id, err)}, nil
	}
	problems := n.Store.Check(ctx, id, list, n.Private)
	for i := range problems {
		problems[i] = fmt.Sprintf("layer %s: %s", id, problems[i])
	}
	return problems, nil
}

// knows reports whether what lies in the place of a layer has a row, or is
// being removed.
func (n *Nest) knows(ctx context.Context, id repo.Digest) bool {
	if _, err := n.State.Layer(ctx, id); err == nil {
		return true
	}
	if _, err := n.State.Tree(ctx, id); err == nil {
		return true
	}
	n.trees.mu.Lock()
	defer n.trees.mu.Unlock()
	return n.trees.gone[id] != nil
}

// checkTrees compares merged trees with what their layers have. It keeps them
// from being dropped meanwhile.
func (n *Nest) checkTrees(ctx context.Context, report *api.CheckReport, rows map[repo.Digest]bool) error {
	trees, unpin, err := n.pinnedTrees(ctx)
	if err != nil {
		return err
	}
	defer n.trees.dropSoon()
	defer unpin()
	byID := map[repo.Digest]*state.Tree{}
	for _, t := range trees {
		byID[t.ID], rows[t.ID] = t, true
	}
	for _, t := range trees {
		if _, placed := n.Store.Layer(t.ID); !placed {
			report.Problems = append(report.Problems, fmt.Sprintf("environment %s is ready but not in its place", t.ID))
			continue
		}
		report.Problems = append(report.Problems, n.checkTree(ctx, t, byID)...)
		report.Trees++
	}
	return nil
}

func (n *Nest) pinnedTrees(ctx context.Context) (trees []*state.Tree, unpin func(), err error) {
	n.trees.rows.RLock()
	defer n.trees.rows.RUnlock()
	if trees, err = n.State.Trees(ctx); err != nil {
		return nil, nil, err
	}
	ids := make([]repo.Digest, len(trees))
	for i, t := range trees {
		ids[i] = t.ID
	}
	return trees, n.trees.pin(ids), nil
}

func (n *Nest) checkTree(ctx context.Context, t *state.Tree, all map[repo.Digest]*state.Tree) []string {
	var base *stacked
	layers := t.Layers
	if t.Base != nil {
		base = stackOf(all, *t.Base)
		layers = slices.Concat(layers, base.Layers)
	}
	for _, id := range layers {
		if _, placed := n.Store.Layer(id); !placed {
			return n.Store.CheckLoose(ctx, t.ID, t.Base != nil)
		}
	}
	p := &plan{id: t.ID, want: &wanted{id: t.Environment, layers: t.Layers, aliases: t.Aliases}, base: base}
	return n.Store.CheckMerged(ctx, t.ID, n.mergeOf(p))
}

func stackOf(all map[repo.Digest]*state.Tree, id repo.Digest) *stacked {
	t := &stacked{Tree: all[id]}
	if t.Base != nil {
		t.below = stackOf(all, *t.Base)
	}
	return t
}
