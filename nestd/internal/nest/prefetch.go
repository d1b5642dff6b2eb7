package nest

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/index"
)

// nobody is the name of the guest that waits for what the operator asks for.
// No guest can have it, and it is entitled to nothing.
const nobody = ""

// Prefetch has packages in the store before any guest asks for them. That one
// can not be had keeps none of the others; an error is one of the request as
// a whole. When ctx ends, what was fetched so far stays in the spool.
func (n *Nest) Prefetch(ctx context.Context, request api.PrefetchRequest) ([]api.Prefetched, error) {
	if len(request.Packages) > MaxPackages {
		return nil, fmt.Errorf("cannot prefetch %d packages: %w", len(request.Packages), errTooMany)
	}
	shown, err := n.State.ShownIndexes(ctx)
	if err != nil {
		return nil, err
	}
	done := make([]api.Prefetched, len(request.Packages))
	var g errgroup.Group
	g.SetLimit(maxPrefetches)
	for i, text := range request.Packages {
		g.Go(func() error {
			done[i].Package = text
			if err := n.prefetchOne(ctx, shown, &done[i]); err != nil {
				done[i].Error = Explain(err)
			}
			return ctx.Err()
		})
	}
	return done, g.Wait()
}

// maxPrefetches is how many packages are prefetched at a time: fewer than
// there are places for jobs, so that guests do not wait for them.
const maxPrefetches = 4

// prefetchOne finds the package that p asks for and waits until it is there.
func (n *Nest) prefetchOne(ctx context.Context, shown []state.Shown, p *api.Prefetched) error {
	want, err := repo.ParsePackageSpec(p.Package)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	from, entry, err := n.find(ctx, shown, want)
	if err != nil {
		return err
	}
	id := entry.Record.Digest
	p.ID, p.NEVRA, p.Publisher = &id, entry.NEVRA().String(), from.Publisher
	layer, err := n.State.Layer(ctx, id)
	if err == nil && n.ready(layer) != nil {
		p.Cached = true
		return nil
	}
	w := n.start(nobody, api.PackageRef{ID: id, Name: entry.Name, Publisher: from.Publisher, Repository: from.Repository}, entry)
	if err := n.awaitNobody(ctx, w); err != nil {
		return err
	}
	if w.first {
		p.Fetched, p.Stored = w.job.result.Fetched, w.job.result.Stored
	}
	return nil
}

// awaitNobody waits for a job on behalf of no guest.
func (n *Nest) awaitNobody(ctx context.Context, w *wait) error {
	defer n.leave(nobody, w.job)
	select {
	case <-w.job.done:
		return w.job.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runsHere reports whether a package is for this host.
func runsHere(e *index.Entry) bool { return e.Arch == repo.NoArch || e.Arch == repo.HostArch() }

// find returns the newest package that is meant. Whom a guest's owner trusts
// the nest does not know, so it does not choose between publishers.
func (n *Nest) find(ctx context.Context, shown []state.Shown, want repo.PackageSpec) (from state.Shown, best *index.Entry, err error) {
	for _, x := range shown {
		if want.Publisher != "" && want.Publisher != x.Publisher {
			continue
		}
		result, err := n.State.Query(ctx, api.Query{Index: x.Root, Kind: api.ByName, Terms: []string{string(want.Name)}})
		if err != nil {
			return from, nil, err
		}
		var entries []*index.Entry
		for _, raw := range result.Entries {
			e := new(index.Entry)
			if err := repo.DecodeStrict(raw, e); err != nil {
				return from, nil, fmt.Errorf("cannot read entry of %s: %w", want.Text, err)
			}
			if runsHere(e) && want.Fits(e.Name, e.EVR()) {
				entries = append(entries, e)
			}
		}
		if len(entries) == 0 {
			continue
		}
		if best != nil {
			return from, nil, fmt.Errorf("cannot choose %q: %s and %s have it: say which, as %s/%s: %w",
				want.Text, from.Publisher, x.Publisher, x.Publisher, want.Name, errBadRequest)
		}
		from, best = x, slices.MaxFunc(entries, func(a, b *index.Entry) int { return a.EVR().Compare(b.EVR()) })
	}
	if best == nil {
		return from, nil, fmt.Errorf("cannot find %q in an index that this nest follows: %w", want.Text, errUnknown)
	}
	return from, best, nil
}
