package nest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/durable"
)

// Options are what a nest is made of. Open takes over State, Store, Fetcher
// and Attacher: Close closes them.
type Options struct {
	Dir      string // durable: documents, repositories' metadata
	RunDir   string // the guests' directories
	Client   string // path of the static client that guests get; or empty
	Quick    string // path of the part of it that guests run first; or empty
	Identity ed25519.PublicKey
	Disk     durable.Disk
	State    *state.State
	Store    *store.Store
	Fetcher  *fetch.Fetcher
	Attacher *attach.Attacher
	Unpack   unpack.Options // how unpackers are started; the sizes are filled in
	Private  func(*repo.File) bool
	Interval time.Duration // at most between two refreshes; 0: 30 s

	// WarmBytes is how much of the store layers may take that no guest refers
	// to, for the nest to fetch beforehand what a repository asks for; 0: it
	// fetches nothing that nobody here asked for.
	WarmBytes int64

	Now func() time.Time
	Log *slog.Logger
}

// Nest is an open nest. Its methods may be called from several goroutines.
type Nest struct {
	Options
	repositories map[repo.Digest]*repository
	documents    *documents
	jobs         *jobs
	trees        *trees
	answers      answers
	started      time.Time

	life context.Context    // ends with Run's ctx: what guests wait for together lives in it
	stop context.CancelFunc // Close
	work sync.WaitGroup     // goroutines that live in life

	guestMu sync.Mutex // serializes changes of guests
	slow    sync.Map   // names of guests whose stork is the whole program; see giveClients
}

// defaultInterval is how old the nest's view of a repository gets at most.
const defaultInterval = 30 * time.Second

// Open recovers what an earlier run left, and makes the nest ready to serve
// what it holds. ctx is the daemon's lifetime.
func Open(ctx context.Context, o Options) (*Nest, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	n := &Nest{Options: o, repositories: map[repo.Digest]*repository{}, started: o.Now()}
	n.life, n.stop = context.WithCancel(ctx)
	n.jobs, n.trees = newJobs(), newTrees()
	steps := []func(context.Context) error{n.openDocuments, n.recoverStore, n.openRepositories, n.copyClients, n.recoverGuests}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			n.stop()
			return nil, fmt.Errorf("cannot open nest: %w", err)
		}
	}
	n.work.Go(func() { n.keepTreesClear(n.life) })
	n.trees.dropSoon()
	return n, nil
}

// Run keeps the repositories fresh until ctx ends.
func (n *Nest) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, r := range n.repositories {
		g.Go(func() error { return r.keepFresh(ctx) })
	}
	return g.Wait()
}

// Close stops what is in progress, waits for it, and closes the rooms.
func (n *Nest) Close() error {
	n.stop()
	n.work.Wait()
	return errors.Join(n.Fetcher.Close(), n.Attacher.Close(), n.Store.Close(), n.State.Close())
}

// recoverStore finishes or undoes what was interrupted (rules N2 and N4).
func (n *Nest) recoverStore(ctx context.Context) error {
	rows, err := n.State.Layers(ctx)
	if err != nil {
		return err
	}
	ready := map[repo.Digest]string{}
	for _, l := range rows {
		ready[l.ID] = l.Staging
	}
	treeRows, err := n.State.Trees(ctx)
	if err != nil {
		return err
	}
	isTree := map[repo.Digest]bool{}
	for _, t := range treeRows {
		ready[t.ID], isTree[t.ID] = t.Staging, true
	}
	lost, err := n.Store.Recover(ctx, ready)
	if err != nil {
		return err
	}
	if len(lost) == 0 {
		return nil
	}
	n.Log.Error("layers or environments are lost, they will be made again", "count", len(lost))
	layers, trees := split(lost, isTree)
	if err := n.State.ForgetLayers(ctx, layers); err != nil {
		return err
	}
	forgotten, err := n.State.ForgetTrees(ctx, trees)
	for _, id := range forgotten { // those that lay on lost ones are there
		err = errors.Join(err, n.Store.Remove(ctx, id))
	}
	return err
}

// split parts IDs of layers from those of trees.
func split(ids []repo.Digest, isTree map[repo.Digest]bool) (layers, trees []repo.Digest) {
	for _, id := range ids {
		if isTree[id] {
			trees = append(trees, id)
		} else {
			layers = append(layers, id)
		}
	}
	return layers, trees
}

func (n *Nest) openRepositories(ctx context.Context) error {
	pins, err := n.State.Repositories(ctx)
	if err != nil {
		return err
	}
	for _, status := range pins {
		r, err := n.openRepository(status)
		if err != nil {
			return err
		}
		n.repositories[status.Root] = r
	}
	return nil
}

// Refresh asks every repository for news, and returns when guests see them,
// with how each one stands.
func (n *Nest) Refresh(ctx context.Context) ([]api.RepositoryStatus, error) {
	var g errgroup.Group
	for _, r := range n.repositories {
		g.Go(func() error { r.refreshNow(ctx); return ctx.Err() })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return n.repositoryStatuses(ctx)
}

// repositoryStatuses adds to what was recorded whether it has expired since.
func (n *Nest) repositoryStatuses(ctx context.Context) ([]api.RepositoryStatus, error) {
	list, err := n.State.Repositories(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Error == "" && list[i].Expires != 0 && n.Now().Unix() > list[i].Expires {
			list[i].Error = "the metadata has expired"
		}
	}
	return list, nil
}

// Status tells the operator how the nest is.
func (n *Nest) Status(ctx context.Context, pid int) (*api.OperatorStatus, error) {
	repositories, err := n.repositoryStatuses(ctx)
	if err != nil {
		return nil, err
	}
	guests, err := n.State.Guests(ctx)
	if err != nil {
		return nil, err
	}
	fetched, err := n.State.Fetched(ctx)
	if err != nil {
		return nil, err
	}
	return &api.OperatorStatus{
		BytesFetched: fetched, Guests: len(guests), Identity: FormatKey(n.Identity), PID: pid,
		Repositories: repositories, Started: n.started.Unix(), Version: repo.Version,
	}, nil
}

// GuestStatus tells a guest who it is to the nest.
func (n *Nest) GuestStatus(ctx context.Context, guest string) (*api.Status, error) {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return nil, err
	}
	repositories, err := n.repositoryStatuses(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Status{Guest: g.Name, Nest: repo.Version, Owner: g.Owner, Placement: g.Placement, Repositories: repositories}, nil
}

func (n *Nest) path(elements ...string) string {
	return filepath.Join(append([]string{n.Dir}, elements...)...)
}
