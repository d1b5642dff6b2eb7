package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"stork/nestd/api"
	"stork/repo"
	repoapi "stork/repo/api"
)

// warmAgain is how long a package is left alone that could not be fetched, or
// for which there was no room.
const warmAgain = time.Hour

// warmer fetches what the operator of a repository wants nests to have before
// anybody installs it. It is the repository's wish and nobody has signed it, so
// it is obeyed only as far as the nest's own operator allows; the packages are
// verified like all others.
type warmer struct {
	repository *repository
	running    chan struct{}             // one place
	tried      map[repo.Digest]time.Time // in vain, of those on the last list; who has the place has it
}

func newWarmer(r *repository) *warmer {
	return &warmer{repository: r, running: make(chan struct{}, 1), tried: map[repo.Digest]time.Time{}}
}

// start looks for wishes, unless those of the last time are still under way.
// It lives on in the nest's life.
func (w *warmer) start() {
	n := w.repository.nest
	if n.WarmBytes <= 0 {
		return
	}
	select {
	case w.running <- struct{}{}:
	default:
		return
	}
	n.work.Go(func() {
		defer func() { <-w.running }()
		if err := w.run(n.life); err != nil && n.life.Err() == nil {
			n.Log.Warn("cannot fetch beforehand what the repository asks for", "repository", w.repository.pin.URL, "err", err)
		}
	})
}

// run fetches what is wished for, one package after another.
func (w *warmer) run(ctx context.Context) error {
	list, err := w.list(ctx)
	if err != nil {
		return err
	}
	before := w.tried
	w.tried = map[repo.Digest]time.Time{}
	for _, p := range list {
		if at, ok := before[p.ID]; ok && w.repository.nest.Now().Sub(at) < warmAgain {
			w.tried[p.ID] = at
			continue
		}
		err := w.fetch(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.tried[p.ID] = w.repository.nest.Now()
			w.repository.nest.Log.Warn("package not fetched beforehand", "pkg", p.Name, "err", err)
		}
	}
	return nil
}

// list asks for the wishes; a server that knows of none has none.
func (w *warmer) list(ctx context.Context) ([]repoapi.WarmPackage, error) {
	n := w.repository.nest
	b, err := n.Fetcher.Get(ctx, w.repository.pin.URL, repoapi.WarmRoute[1:], repoapi.MaxWarmList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list repoapi.WarmList
	if err := repo.DecodeStrict(b, &list); err != nil {
		return nil, fmt.Errorf("its list: %w", err)
	}
	if len(list.Packages) > repoapi.MaxWarm {
		return nil, fmt.Errorf("its list: %w", errTooMany)
	}
	return list.Packages, nil
}

// fetch has one package in the store, if it is for this host and there is room
// for it. One that is in no index that guests see is left for the next time.
func (w *warmer) fetch(ctx context.Context, p repoapi.WarmPackage) error {
	n := w.repository.nest
	ref := api.PackageRef{ID: p.ID, Name: p.Name, Publisher: p.Publisher, Repository: w.repository.pin.Root}
	offers, err := n.State.Offers(ctx, []api.PackageRef{ref})
	if err != nil || !offers[0].Admitted() || n.ready(offers[0].Layer) != nil {
		return err
	}
	entry, err := offers[0].Entry()
	if err != nil || !runsHere(entry) {
		return err
	}
	unused, err := n.State.UnusedBytes(ctx)
	if err != nil {
		return err
	}
	if entry.InstalledSize > n.WarmBytes-unused {
		return fmt.Errorf("its files have %d bytes; what no guest uses has %d of the %d that warm_bytes allows: %w", entry.InstalledSize, unused, n.WarmBytes, errTooLarge)
	}
	return n.awaitNobody(ctx, n.start(nobody, ref, entry))
}
