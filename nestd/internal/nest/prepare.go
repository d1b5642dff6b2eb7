package nest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/index"
)

// MaxPackages is how many packages one request may name.
const MaxPackages = 10000

// tick is how often progress is sent at most.
const tick = 100 * time.Millisecond

// Prepare has layers made ready for a guest and tells it how that goes. emit
// is called by one goroutine; when it fails, because the guest is gone,
// Prepare ends, and so do the jobs that nobody else waits for. An error of the
// request as a whole, or of the first package that fails, is returned and not
// emitted.
func (n *Nest) Prepare(ctx context.Context, guest string, request api.PrepareRequest, emit func(api.Event) error) error {
	if len(request.Packages) > MaxPackages {
		return fmt.Errorf("cannot prepare %d packages: %w", len(request.Packages), errTooMany)
	}
	refs := distinct(request.Packages)
	offers, err := n.offers(ctx, guest, refs)
	if err != nil {
		return err
	}
	var waits []*wait
	var there, absent []*api.Prepared
	defer func() {
		for _, w := range waits {
			n.leave(guest, w.job)
		}
	}()
	for i, ref := range refs {
		if prepared := n.ready(offers[i].Layer); prepared != nil {
			there = append(there, prepared)
			continue
		}
		if !offers[i].Admitted() {
			return fmt.Errorf("cannot prepare %s: package %s is no longer in the index of %s: %w", ref.Name, ref.ID.Short(), ref.Publisher, errNotAdmitted)
		}
		entry, err := offers[i].Entry()
		if err != nil {
			return err
		}
		if request.DryRun {
			absent = append(absent, &api.Prepared{ID: ref.ID, Fetched: entry.BlobSize, Private: []repo.File{}})
		} else {
			waits = append(waits, n.start(guest, ref, entry))
		}
	}
	if err := n.grant(ctx, guest, there, emit); err != nil {
		return err
	}
	for _, p := range absent {
		if err := emit(api.Event{Prepared: p}); err != nil {
			return err
		}
	}
	return n.await(ctx, guest, waits, emit)
}

// grant entitles the guest to layers that are ready, and only then says so.
func (n *Nest) grant(ctx context.Context, guest string, there []*api.Prepared, emit func(api.Event) error) error {
	ids := make([]repo.Digest, len(there))
	for i, p := range there {
		ids[i] = p.ID
	}
	if len(ids) > 0 {
		if err := n.State.Entitle(ctx, guest, ids); err != nil {
			return err
		}
	}
	for _, p := range there {
		if err := emit(api.Event{Prepared: p}); err != nil {
			return err
		}
	}
	return nil
}

// distinct returns each package once.
func distinct(refs []api.PackageRef) []api.PackageRef {
	seen := map[repo.Digest]bool{}
	return slices.DeleteFunc(slices.Clone(refs), func(ref api.PackageRef) bool {
		again := seen[ref.ID]
		seen[ref.ID] = true
		return again
	})
}

// offers returns what there is of packages that the guest may have: those that
// the nest itself has found in a verified index of that publisher, and those
// whose layers it was entitled to before: what it has installed it may place in
// another way, although its publisher no longer has it.
func (n *Nest) offers(ctx context.Context, guest string, refs []api.PackageRef) ([]state.Offer, error) {
	for _, ref := range refs {
		if n.repositories[ref.Repository] == nil {
			return nil, fmt.Errorf("cannot prepare %s: this nest does not follow repository %s: %w", ref.Name, ref.Repository.Short(), errUnknown)
		}
	}
	offers, err := n.State.Offers(ctx, refs)
	if err != nil {
		return nil, err
	}
	var entitled map[repo.Digest]bool
	for i, ref := range refs {
		if offers[i].Admitted() {
			continue
		}
		if entitled == nil {
			if entitled, err = n.State.Entitled(ctx, guest); err != nil {
				return nil, err
			}
		}
		if !entitled[ref.ID] {
			return nil, fmt.Errorf("cannot prepare %s: package %s is not in the index of %s: %w", ref.Name, ref.ID.Short(), ref.Publisher, errNotAdmitted)
		}
	}
	return offers, nil
}

// ready returns what is said of a layer that is in its place, or nil.
func (n *Nest) ready(layer *state.Layer) *api.Prepared {
	if layer == nil {
		return nil
	}
	if _, placed := n.Store.Layer(layer.ID); !placed {
		return nil // its job is about to place it, or to try again
	}
	return &api.Prepared{
		ID: layer.ID, Cached: true, Shared: layer.Stored + layer.Shared, Private: layer.Private, Manifest: layer.Manifest,
	}
}

// wait is one package that a guest waits for.
type wait struct {
	job   *job
	first bool // this guest's request started the job: it is billed
	told  api.Progress
}

func (n *Nest) start(guest string, ref api.PackageRef, entry *index.Entry) *wait {
	w := &wait{}
	w.job, w.first = n.join(guest, ref.ID, func(ctx context.Context, j *job) error {
		return n.prepareOne(ctx, j, ref, entry)
	})
	return w
}

// await tells of progress until every job is done, or one has failed.
func (n *Nest) await(ctx context.Context, guest string, waits []*wait, emit func(api.Event) error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for _, w := range waits {
		for done := false; !done; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-w.job.done:
				done = true
			case <-ticker.C:
				if err := tell(waits, emit); err != nil {
					return err
				}
			}
		}
		if w.job.err != nil {
			return w.job.err
		}
		prepared := w.job.result
		if !w.first {
			prepared.Shared, prepared.Stored, prepared.Fetched = prepared.Shared+prepared.Stored, 0, 0
		}
		w.told = api.Progress{ID: prepared.ID, Phase: api.Ready}
		// The row may have been committed before this guest joined the job.
		if err := n.grant(ctx, guest, []*api.Prepared{&prepared}, emit); err != nil {
			return err
		}
	}
	return nil
}

// tell emits the progress that changed.
func tell(waits []*wait, emit func(api.Event) error) error {
	for _, w := range waits {
		now := w.job.state()
		if w.told.Phase == api.Ready || now == w.told {
			continue
		}
		w.told = now
		if err := emit(api.Event{Progress: &now}); err != nil {
			return err
		}
	}
	return nil
}
