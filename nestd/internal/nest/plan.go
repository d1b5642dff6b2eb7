package nest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
)

// nearTrees is how many trees are looked at, beside those of the environment
// asked for and of the guest, to find one to begin with.
const nearTrees = 64

// treeID returns the ID of a merged tree: the SHA-256 of
//
//	stork environment 1
//	layer sha256:…             for each, sorted
//	alias "/bin" "/usr/bin"    for each, sorted, quoted as Go does
//	base sha256:…              of a delta tree: the tree below
//
// each line ended by a newline. Without base it is the ID of the environment,
// too. What is private in a layer follows from the layer.
func treeID(layers []repo.Digest, aliases map[string]string, base *repo.Digest) repo.Digest {
	var b strings.Builder
	b.WriteString("stork environment 1\n")
	for _, id := range layers {
		fmt.Fprintf(&b, "layer %s\n", id)
	}
	for _, from := range slices.Sorted(maps.Keys(aliases)) {
		fmt.Fprintf(&b, "alias %q %q\n", from, aliases[from])
	}
	if base != nil {
		fmt.Fprintf(&b, "base %s\n", base)
	}
	return repo.DigestOf([]byte(b.String()))
}

// plan is a tree that is there or is to be built, on what it lies, and what
// keeps all that from being dropped meanwhile.
type plan struct {
	id    repo.Digest
	want  *wanted
	base  *stacked // nil: whole
	unpin func()
}

// stack lists the tree and those below, topmost first.
func (p *plan) stack() []repo.Digest {
	list := []repo.Digest{p.id}
	for t := p.base; t != nil; t = t.below {
		list = append(list, t.ID)
	}
	return list
}

// stacked is a tree with those that it lies on.
type stacked struct {
	*state.Tree
	below  *stacked
	depth  int
	shown  bool // the guest may see all of the stack
	placed bool
	deltas int // entries of all delta trees of the stack
	files  int // entries of the whole tree below all
}

// plan finds the environment among the trees that there are, or the nearest
// one to build it from.
//
// A guest sees every tree of its stack, also what those above hide. So it gets
// only stacks that never showed a package which it is not entitled to.
func (n *Nest) plan(ctx context.Context, guest string, want *wanted, entitled map[repo.Digest]bool) (*plan, error) {
	release, err := take(ctx, n.trees.choosing)
	if err != nil {
		return nil, err
	}
	defer release()
	// What is chosen is pinned before any row can go.
	n.trees.rows.RLock()
	defer n.trees.rows.RUnlock()
	rows, err := n.State.NearTrees(ctx, guest, want.id, want.aliases, nearTrees)
	if err != nil {
		return nil, err
	}
	mine, err := n.State.GuestTrees(ctx, guest)
	if err != nil {
		return nil, err
	}
	p := n.choose(n.stacks(rows, entitled), mine, want)
	p.unpin = n.trees.pin(p.stack())
	return p, nil
}

// planWhole is the plan that needs nothing.
func (n *Nest) planWhole(want *wanted) *plan {
	n.trees.rows.RLock()
	defer n.trees.rows.RUnlock()
	p := &plan{id: want.id, want: want}
	p.unpin = n.trees.pin(p.stack())
	return p
}

// stacks puts trees on those that they lie on.
func (n *Nest) stacks(rows []*state.Tree, entitled map[repo.Digest]bool) map[repo.Digest]*stacked {
	byID := map[repo.Digest]*state.Tree{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	done := map[repo.Digest]*stacked{}
	var put func(row *state.Tree) *stacked
	put = func(row *state.Tree) *stacked {
		if t := done[row.ID]; t != nil {
			return t
		}
		t := &stacked{Tree: row, depth: 1, files: row.Entries}
		_, t.placed = n.Store.Layer(row.ID)
		t.shown = !slices.ContainsFunc(row.Layers, func(id repo.Digest) bool { return !entitled[id] })
		if row.Base != nil {
			t.below = put(byID[*row.Base]) // it is there: NearTrees returns all below
			t.depth, t.files, t.deltas = t.below.depth+1, t.below.files, t.below.deltas+row.Entries
			t.shown, t.placed = t.shown && t.below.shown, t.placed && t.below.placed
		}
		done[row.ID] = t
		return t
	}
	for _, row := range rows {
		put(row)
	}
	return done
}

// choose prefers the environment itself, as the guest has it; then as flat as
// it is to be had; then the nearest to build it from; then to build it whole.
func (n *Nest) choose(all map[repo.Digest]*stacked, mine []repo.Digest, want *wanted) *plan {
	var exact, near *stacked
	nearest := 0
	for _, id := range slices.SortedFunc(maps.Keys(all), compareDigests) {
		t := all[id]
		if !t.shown || t.below != nil && !t.below.placed {
			continue
		}
		if t.Environment == want.id {
			if exact == nil || preferred(t, exact, mine) {
				exact = t
			}
			continue
		}
		distance := distance(t.Layers, want.layers)
		if !t.placed || t.depth >= api.MaxTrees || 2*t.deltas > t.files || 2*distance > len(want.layers) || !n.reaches(t, want) {
			continue
		}
		if near == nil || distance < nearest || distance == nearest && t.depth < near.depth {
			near, nearest = t, distance
		}
	}
	switch {
	case exact != nil:
		return &plan{id: exact.ID, want: want, base: exact.below}
	case near != nil:
		return &plan{id: treeID(want.layers, want.aliases, &near.ID), want: want, base: near}
	}
	return &plan{id: want.id, want: want}
}

func preferred(t, other *stacked, mine []repo.Digest) bool {
	if a, b := slices.Contains(mine, t.ID), slices.Contains(mine, other.ID); a != b {
		return a
	}
	return t.depth < other.depth
}

// reaches reports whether all layers are there that have to go.
func (n *Nest) reaches(t *stacked, want *wanted) bool {
	for _, id := range difference(t.Layers, want.layers) {
		if _, placed := n.Store.Layer(id); !placed {
			return false
		}
	}
	return true
}

// distance counts what is in one of two sorted sets only.
func distance(a, b []repo.Digest) int { return len(difference(a, b)) + len(difference(b, a)) }

// difference returns what sorted set a has and b has not.
func difference(a, b []repo.Digest) []repo.Digest {
	var only []repo.Digest
	for _, id := range a {
		for len(b) > 0 && compareDigests(b[0], id) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != id {
			only = append(only, id)
		}
	}
	return only
}
