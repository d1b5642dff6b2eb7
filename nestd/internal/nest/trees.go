package nest

import (
	"context"
	"errors"
	"sync"

	"stork/repo"
)

// trees are the merged trees that are being chosen, built and dropped.
type trees struct {
	// rows is held for reading by who chooses and pins trees, and for writing
	// by who drops the rows of those that nobody uses.
	rows sync.RWMutex
	// commit is held from a tree's row to its place, so that who finds a row
	// without a tree knows that nobody is about to place it.
	commit sync.Mutex

	choosing chan struct{} // one place for each who holds rows of trees in memory
	merges   chan struct{} // one place for each merge at a time

	mu     sync.Mutex
	busy   map[string]chan struct{}      // guests: each has one request in work
	pinned map[repo.Digest]int           // trees that are in use before a reference says so
	gone   map[repo.Digest]chan struct{} // trees without a row, until their files are gone
	wake   chan struct{}                 // has room while nobody has asked to drop trees
}

// How many requests choose, and merge, beside each other. Merges are bound by
// the file system's directories.
const (
	maxChoosing = 4
	maxMerges   = 2
)

// maxGone is how many trees may wait for their removal before no new one is
// built: a guest that asks for one after another fills no disk.
const maxGone = 8

func newTrees() *trees {
	return &trees{
		choosing: make(chan struct{}, maxChoosing), merges: make(chan struct{}, maxMerges), busy: map[string]chan struct{}{},
		pinned: map[repo.Digest]int{}, gone: map[repo.Digest]chan struct{}{}, wake: make(chan struct{}, 1),
	}
}

// enter waits until none of the guest's requests is in work.
func (t *trees) enter(ctx context.Context, guest string) (leave func(), err error) {
	t.mu.Lock()
	places := t.busy[guest]
	if places == nil {
		places = make(chan struct{}, 1)
		t.busy[guest] = places // there are no more of them than guests were registered
	}
	t.mu.Unlock()
	return take(ctx, places)
}

// pin keeps trees, there or to come, from being dropped.
func (t *trees) pin(ids []repo.Digest) (unpin func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.pinned[id]++
	}
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, id := range ids {
			if t.pinned[id]--; t.pinned[id] == 0 {
				delete(t.pinned, id)
			}
		}
	})
}

// dropSoon has trees dropped that nobody uses.
func (t *trees) dropSoon() {
	select {
	case t.wake <- struct{}{}:
	default: // somebody has asked already
	}
}

// keepTreesClear drops trees whenever somebody asks, until the nest stops.
func (n *Nest) keepTreesClear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.trees.wake:
			if err := n.dropTrees(ctx); err != nil && ctx.Err() == nil {
				n.Log.Error("cannot drop environments", "err", err)
			}
		}
	}
}

// dropTrees removes the trees that nobody uses: rows first (rule N4). What is
// left without a row by an error goes with the next start-up.
func (n *Nest) dropTrees(ctx context.Context) error {
	dropped, err := n.dropRows(ctx)
	for _, id := range dropped {
		err = errors.Join(err, n.Store.Remove(ctx, id))
		n.trees.mu.Lock()
		close(n.trees.gone[id])
		delete(n.trees.gone, id)
		n.trees.mu.Unlock()
	}
	return err
}

func (n *Nest) dropRows(ctx context.Context) ([]repo.Digest, error) {
	t := n.trees
	t.rows.Lock()
	defer t.rows.Unlock()
	t.mu.Lock()
	busy := map[repo.Digest]bool{}
	for id := range t.pinned {
		busy[id] = true
	}
	t.mu.Unlock()
	dropped, err := n.State.DropTrees(ctx, busy)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range dropped {
		t.gone[id] = make(chan struct{})
	}
	return dropped, err
}

// waitForRoom waits until the tree is not on its way out, nor too many others.
func (t *trees) waitForRoom(ctx context.Context, id repo.Digest) error {
	for {
		t.mu.Lock()
		removed := t.gone[id]
		if removed == nil && len(t.gone) > maxGone {
			for _, removed = range t.gone {
				break
			}
		}
		t.mu.Unlock()
		if removed == nil {
			return nil
		}
		select {
		case <-removed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
