package nest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/signing"
)

// repository is one pinned repository.
type repository struct {
	nest   *Nest
	pin    api.RepositoryPin
	trust  *signing.Client
	mirror *mirror
	trusts trusts
	warmer *warmer

	mu    sync.Mutex // one refresh at a time
	clean bool       // the last full refresh went through, all of it
}

func (n *Nest) openRepository(status api.RepositoryStatus) (*repository, error) {
	dir := n.path("repositories", status.Root.Hex())
	trust, err := signing.Open(signing.Options{Dir: dir + "/trust", Root: status.Root, Disk: n.Disk, Now: n.Now})
	if err != nil {
		return nil, err
	}
	m, err := openMirror(dir, n.Disk)
	if err != nil {
		return nil, err
	}
	r := &repository{nest: n, pin: status.RepositoryPin, trust: trust, mirror: m}
	r.warmer = newWarmer(r)
	return r, nil
}

// keepFresh refreshes now and then, until ctx ends. Pauses differ, so that
// the nests of a data centre do not come all at once.
func (r *repository) keepFresh(ctx context.Context) error {
	for {
		r.refreshNow(ctx)
		r.warmer.start()
		interval := r.nest.Interval
		pause := interval - rand.N(interval/4+1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// refreshTimeout ends a refresh that a repository draws out. Only the first
// one, with a large index over a slow line, needs long.
const refreshTimeout = 15 * time.Minute

// refreshNow refreshes and records how that went. If the repository can not
// be reached or does not verify, guests go on seeing what they saw.
func (r *repository) refreshNow(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	status, err := r.status(ctx)
	if err == nil {
		err = r.refresh(ctx, status)
	}
	if ctx.Err() == context.Canceled {
		return // the nest is stopping, or the operator gave up
	}
	if status == nil {
		r.nest.Log.Error("cannot refresh repository", "repository", r.pin.URL, "err", err)
		return
	}
	if err != nil {
		status.Error = err.Error()
		r.nest.Log.Warn("cannot refresh repository", "repository", r.pin.URL, "err", err)
	}
	if err := r.nest.State.SetRepositoryStatus(ctx, *status); err != nil {
		r.nest.Log.Error("cannot record repository status", "repository", r.pin.URL, "err", err)
	}
}

// status returns what is recorded of this repository.
func (r *repository) status(ctx context.Context) (*api.RepositoryStatus, error) {
	all, err := r.nest.State.Repositories(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Root == r.pin.Root {
			return &all[i], nil
		}
	}
	return nil, fs.ErrNotExist
}

// refresh brings the mirror up to date and notes it in status.
func (r *repository) refresh(ctx context.Context, status *api.RepositoryStatus) error {
	source := &recorder{fetcher: r.nest.Fetcher, baseURL: r.pin.URL, mirror: r.mirror, seen: map[string]fetched{}}
	defer source.close()
	if r.clean && r.unchanged(ctx, source) {
		status.Checked, status.Error = r.nest.Now().Unix(), ""
		return nil
	}
	r.clean = false
	snapshot, err := r.trust.Refresh(ctx, source)
	if err != nil {
		return err
	}
	indexes, broken, err := r.follow(ctx, snapshot)
	if err != nil {
		return err
	}
	var keep []repo.Publisher
	for role := range broken {
		keep = append(keep, role.Publisher())
	}
	files, err := source.files(ctx, snapshot.Files())
	if err != nil {
		return err
	}
	// Rule N5: everything is stored; from here on guests see it. Should we
	// stop between the two steps, the older indexes are still kept.
	if err := r.mirror.show(ctx, files); err != nil {
		return err
	}
	r.trusts.show(snapshot)
	if err := r.nest.State.ShowIndexes(ctx, r.pin.Root, indexes, keep); err != nil {
		return err
	}
	status.Checked, status.Error = r.nest.Now().Unix(), ""
	status.Version, status.Expires = snapshot.Version(), snapshot.Expires().Unix()
	r.clean = len(broken) == 0
	return errors.Join(slices.Collect(maps.Values(broken))...)
}

// unchanged reports whether the repository serves the timestamp that guests
// see already, and no newer root: then there is nothing to verify anew.
func (r *repository) unchanged(ctx context.Context, source *recorder) bool {
	b, err := source.Fetch(ctx, repo.TimestampPath, repo.MaxTimestamp)
	if err != nil {
		return false
	}
	shown, err := r.mirror.read(repo.TimestampPath)
	if err != nil || !bytes.Equal(b, shown) {
		return false
	}
	view := r.mirror.view.Load()
	next := int64(1)
	for ; view.Files[repo.MetadataPath("root", next)].Verified; next++ {
	}
	_, err = source.Fetch(ctx, repo.MetadataPath("root", next), repo.MaxRoot)
	return errors.Is(err, fs.ErrNotExist)
}

// follow brings in what every role names, and returns the indexes to show. A
// publisher whose role does not verify, or has expired, does not hold the
// others up: broken says so, and guests find the same when they look.
func (r *repository) follow(ctx context.Context, snapshot *signing.Snapshot) (indexes []repo.Digest, broken map[repo.Role]error, err error) {
	broken = map[repo.Role]error{}
	for _, role := range snapshot.Roles() {
		object, err := r.followRole(ctx, snapshot, role)
		switch {
		case err == nil && !object.Digest.IsZero():
			indexes = append(indexes, object.Digest)
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case isBroken(err):
			broken[role] = err
		default:
			return nil, nil, err
		}
	}
	return indexes, broken, nil
}

// isBroken reports whether an error is about what one role says, and not
// about reaching the repository or our own disk.
func isBroken(err error) bool {
	return errors.Is(err, signing.ErrUntrusted) || errors.Is(err, signing.ErrExpired) || errors.As(err, new(*indexError))
}

// followRole returns the index root of a publisher's role, ingested; for an
// owner's role it stores the policy and returns nothing.
func (r *repository) followRole(ctx context.Context, snapshot *signing.Snapshot, role repo.Role) (repo.Object, error) {
	if role.IsOwner() {
		object, err := snapshot.LookupDelegated(ctx, role, signing.PolicyTarget(role.Publisher()))
		if err != nil {
			return repo.Object{}, err
		}
		if object.Size > repo.MaxPolicy {
			return repo.Object{}, &indexError{fmt.Errorf("policy of %s has %d bytes", role, object.Size)}
		}
		_, err = r.nest.documents.fetch(ctx, r, object)
		return repo.Object{}, err
	}
	object, err := snapshot.LookupDelegated(ctx, role, signing.IndexTarget(role.Publisher()))
	if err != nil {
		return repo.Object{}, err
	}
	if err := r.ingest(ctx, role.Publisher(), object); err != nil {
		return repo.Object{}, fmt.Errorf("cannot take index of %s: %w", role.Publisher(), err)
	}
	return object, nil
}
