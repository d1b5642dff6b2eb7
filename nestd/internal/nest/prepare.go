package nest

import (
	"context"
	"errors"
	"fmt"
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
	var waits []*wait
	var there, absent []*api.Prepared
	defer func() {
		for _, w := range waits {
			n.leave(guest, w.job)
		}
	}()
	seen := map[repo.Digest]bool{}
	for _, ref := range request.Packages {
		if seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		entry, err := n.admit(ctx, ref)
		if errors.Is(err, errNotAdmitted) {
			err = n.holds(ctx, guest, ref.ID, err)
		}
		if err != nil {
			return err
		}
		prepared, err := n.ready(ctx, ref.ID)
		switch {
		case err != nil:
			return err
		case prepared != nil:
			there = append(there, prepared)
		case entry == nil:
			return fmt.Errorf("cannot prepare %s: package %s is no longer in the index of %s: %w", ref.Name, ref.ID.Short(), ref.Publisher, errNotAdmitted)
		case request.DryRun:
			absent = append(absent, &api.Prepared{ID: ref.ID, Fetched: entry.BlobSize, Private: []repo.File{}})
		default:
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

// admit returns the index entry of a package that the nest itself has found
// in a verified index of that publisher.
func (n *Nest) admit(ctx context.Context, ref api.PackageRef) (*index.Entry, error) {
	if n.repositories[ref.Repository] == nil {
		return nil, fmt.Errorf("cannot prepare %s: this nest does not follow repository %s: %w", ref.Name, ref.Repository.Short(), errUnknown)
	}
	entry, err := n.State.Admitted(ctx, ref)
	if errors.Is(err, state.ErrNotFound) {
		return nil, fmt.Errorf("cannot prepare %s: package %s is not in the index of %s: %w", ref.Name, ref.ID.Short(), ref.Publisher, errNotAdmitted)
	}
	return entry, err
}

// holds returns not, unless the guest may have the package's layer already:
// what it has installed it may place in another way, although its publisher
// no longer has it.
func (n *Nest) holds(ctx context.Context, guest string, id repo.Digest, not error) error {
	entitled, err := n.State.Entitled(ctx, guest)
	if err == nil && !entitled[id] {
		return not
	}
	return err
}

// ready returns what is said of a layer that is in its place, or nil.
func (n *Nest) ready(ctx context.Context, id repo.Digest) (*api.Prepared, error) {
	layer, err := n.State.Layer(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, placed := n.Store.Layer(id); !placed {
		return nil, nil // its job is about to place it, or to try again
	}
	return &api.Prepared{
		ID: id, Cached: true, Shared: layer.Stored + layer.Shared, Private: layer.Private, Manifest: layer.Manifest,
	}, nil
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
