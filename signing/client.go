package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"stork/repo"
	"stork/signing/trust"
)

// Options say which repository a Client follows.
type Options = trust.Options

// Client follows one repository. It may be used by several goroutines.
type Client struct {
	*trust.Ledger
}

// Open prepares to follow a repository, and reads nothing but the trust
// state.
func Open(o Options) (*Client, error) {
	ledger, err := trust.Open(o)
	if err != nil {
		return nil, err
	}
	return &Client{ledger}, nil
}

// Root returns the repository's identity.
func (c *Client) Root() repo.Digest { return c.Options.Root }

// Refresh verifies what src serves now: the chain of roots from the pinned
// one, timestamp, snapshot and targets, against the clock and against what
// this client has seen before, and records durably what it has seen (see
// Options.Deferred).
//
// A src that answers from a mirror makes the same work while the repository
// is unreachable, until the mirrored timestamp expires: then it returns
// ErrExpired.
func (c *Client) Refresh(ctx context.Context, src Source) (*Snapshot, error) {
	return c.Offline(ctx, src, 0)
}

// Offline is Refresh with expiry judged as it was grace ago, for a guest
// whose owner's policy grants that (`offline`). Policy itself comes from a
// snapshot: the caller passes the grace that the policy it holds from before
// grants, and compares it with the policy that this snapshot leads to.
func (c *Client) Offline(ctx context.Context, src Source, grace time.Duration) (*Snapshot, error) {
	state, err := c.Current()
	if err != nil {
		return nil, err
	}
	now := c.Options.Now().UTC()
	judged := now
	if seen := time.Unix(state.Time, 0).UTC(); judged.Before(seen) {
		judged = seen
	}
	r := &refresh{client: c, src: src, state: state, judged: judged.Add(-grace)}
	snapshot, err := r.run(ctx)
	for range maxRootRaces {
		if !errors.Is(err, ErrUntrusted) || !r.overtaken(ctx) {
			break
		}
		r = &refresh{client: c, src: src, state: state, judged: judged.Add(-grace)}
		snapshot, err = r.run(ctx)
	}
	if errors.Is(err, ErrExpired) && judged.After(now.Add(trust.TimeStep)) {
		err = fmt.Errorf("%w (judged at %s, the latest time seen here; the clock now says %s)",
			err, judged.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	// The time is recorded whatever came of it: one who froze the metadata
	// must not win by setting the clock back afterwards.
	verified, floors := err == nil, r.floors
	saveErr := c.Update(func(s *trust.State) (bool, error) {
		changed := s.SawTime(now)
		return verified && s.Raise(floors) || changed, nil
	})
	if err == nil {
		err = saveErr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot refresh repository %s: %w", c.Options.Root.Short(), err)
	}
	return snapshot, nil
}

// maxRootRaces is how often a refresh begins again because the repository
// changed its keys meanwhile.
const maxRootRaces = 3

// overtaken reports whether there is a newer root than the one this run
// went by: keys were rotated between its reading the root and the rest, which
// is no reason to distrust the repository.
func (r *refresh) overtaken(ctx context.Context) bool {
	if r.trusted == nil || r.trusted.Root == nil {
		return false
	}
	_, err := r.src.Fetch(ctx, repo.MetadataPath(metadata.ROOT, r.trusted.Root.Signed.Version+1), repo.MaxRoot)
	return err == nil
}

// refresh is one run of the TUF client workflow (specification, section 5).
type refresh struct {
	client  *Client
	src     Source
	state   *trust.State // as it was at the start
	judged  time.Time
	trusted *trustedmetadata.TrustedMetadata
	floors  trust.Floors // what this run has verified
	files   []string
}

func (r *refresh) run(ctx context.Context) (*Snapshot, error) {
	steps := []func(context.Context) error{r.root, r.timestamp, r.snapshot, r.targets}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &Snapshot{
		client: r.client, src: r.src, judged: r.judged, pins: r.state.Pins, trusted: r.trusted, expires: r.earliest(),
		files: r.files, chains: map[repo.Role][]*KeyDocument{}, roles: map[repo.Role]*SignedRole{},
	}, nil
}

func (r *refresh) earliest() time.Time {
	t := r.trusted
	times := []time.Time{
		t.Root.Signed.Expires, t.Timestamp.Signed.Expires, t.Snapshot.Signed.Expires,
		t.Targets[metadata.TARGETS].Signed.Expires,
	}
	return slices.MinFunc(times, time.Time.Compare)
}

// rootPath is the newest root that was verified. Damage is harmless: it is
// verified again from the pinned one, and a floor says how far at least.
func (c *Client) rootPath() string { return filepath.Join(c.Options.Dir, "root.json") }

// root follows the chain of roots to its end (5.3).
func (r *refresh) root(ctx context.Context) error {
	stored, fresh, err := r.loadRoot(ctx)
	if err != nil {
		return err
	}
	for range MaxKeyDocuments {
		path := repo.MetadataPath(metadata.ROOT, r.trusted.Root.Signed.Version+1)
		b, err := fetchOptional(ctx, r.src, path, repo.MaxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if err := guard(func() error { _, err := r.trusted.UpdateRoot(b); return err }); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		stored, fresh = b, true
	}
	newest := r.trusted.Root.Signed.Version
	if newest < r.state.Floors.Root {
		return untrusted("root version %d was seen here, the repository has only %d", r.state.Floors.Root, newest)
	}
	for v := int64(1); v <= newest; v++ {
		r.files = append(r.files, repo.MetadataPath(metadata.ROOT, v))
	}
	r.floors.Root, r.floors.RootDigest = newest, repo.DigestOf(stored)
	r.floors.TimestampKeys = roleKeys(r.trusted.Root, metadata.TIMESTAMP)
	r.floors.SnapshotKeys = roleKeys(r.trusted.Root, metadata.SNAPSHOT)
	if !fresh {
		return nil
	}
	if err := r.client.Options.Disk.WriteCache(r.client.rootPath(), stored, 0o644); err != nil {
		return fmt.Errorf("cannot record the repository's root: %w", err)
	}
	return nil
}

// loadRoot starts from the root on disk or, if there is none or it is
// damaged, from the pinned first one, which it reports as fresh.
func (r *refresh) loadRoot(ctx context.Context) (b []byte, fresh bool, err error) {
	b, err = Dir(r.client.Options.Dir).Fetch(ctx, "root.json", repo.MaxRoot)
	if err == nil && repo.DigestOf(b) == r.state.Floors.RootDigest && r.resume(b) == nil {
		return b, false, nil
	}
	path := repo.MetadataPath(metadata.ROOT, 1)
	if b, err = fetch(ctx, r.src, path, repo.MaxRoot); err != nil {
		return nil, false, err
	}
	if repo.DigestOf(b) != r.client.Options.Root {
		return nil, false, untrusted("the first root has digest %s, pinned is %s", repo.DigestOf(b), r.client.Options.Root)
	}
	if err := r.trust(b); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return b, true, nil
}

// resume trusts a root that this client has verified before, as its digest in
// the trust state proves, without doing so again: three signatures are a
// fifth of a refresh.
func (r *refresh) resume(root []byte) error {
	return guard(func() error {
		meta, err := (&metadata.Metadata[metadata.RootType]{}).FromBytes(root)
		if err != nil {
			return err
		}
		r.trusted = &trustedmetadata.TrustedMetadata{
			Root: meta, Targets: map[string]*metadata.Metadata[metadata.TargetsType]{}, RefTime: r.judged,
		}
		return nil
	})
}

func (r *refresh) trust(root []byte) error {
	return guard(func() error {
		trusted, err := trustedmetadata.New(root)
		if err != nil {
			return err
		}
		trusted.RefTime = r.judged
		r.trusted = trusted
		return nil
	})
}

func roleKeys(root *metadata.Metadata[metadata.RootType], name string) []string {
	role := root.Signed.Roles[name]
	if role == nil {
		return nil
	}
	ids := slices.Clone(role.KeyIDs)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// timestamp verifies the one file that changes (5.4).
func (r *refresh) timestamp(ctx context.Context) error {
	b, err := fetch(ctx, r.src, repo.TimestampPath, repo.MaxTimestamp)
	if err != nil {
		return err
	}
	err = guard(func() error {
		meta, err := r.trusted.UpdateTimestamp(b)
		if err != nil {
			return err
		}
		snapshot := meta.Signed.Meta["snapshot.json"]
		if snapshot == nil || snapshot.Length < 0 || snapshot.Length > repo.MaxSnapshot {
			return untrusted("it does not name a snapshot of acceptable size")
		}
		r.floors.Timestamp, r.floors.Snapshot = meta.Signed.Version, snapshot.Version
		return r.state.Floors.CheckTimestamp(r.floors)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", repo.TimestampPath, err)
	}
	r.files = append(r.files, repo.TimestampPath)
	return nil
}

// snapshot verifies the snapshot that the timestamp names (5.5).
func (r *refresh) snapshot(ctx context.Context) error {
	named := r.trusted.Timestamp.Signed.Meta["snapshot.json"]
	path := repo.MetadataPath(metadata.SNAPSHOT, named.Version)
	b, err := fetch(ctx, r.src, path, sizeOr(named.Length, repo.MaxSnapshot))
	if err != nil {
		return err
	}
	err = guard(func() error {
		meta, err := r.trusted.UpdateSnapshot(b, false)
		if err != nil {
			return err
		}
		r.floors.Versions = make(map[string]int64, len(meta.Signed.Meta))
		for name, file := range meta.Signed.Meta {
			r.floors.Versions[name] = file.Version
		}
		return r.state.Floors.CheckSnapshot(r.floors)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.files = append(r.files, path)
	return nil
}

// targets verifies the repository's delegations (5.6).
func (r *refresh) targets(ctx context.Context) error {
	named := r.trusted.Snapshot.Signed.Meta["targets.json"]
	if named == nil {
		return untrusted("the snapshot does not name targets")
	}
	path := repo.MetadataPath(metadata.TARGETS, named.Version)
	b, err := fetch(ctx, r.src, path, sizeOr(named.Length, repo.MaxTargets))
	if err != nil {
		return err
	}
	if err := guard(func() error { _, err := r.trusted.UpdateTargets(b); return err }); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.files = append(r.files, path)
	return nil
}

// sizeOr returns the signed length if it is there and below max, else max.
func sizeOr(length, max int64) int64 {
	if length > 0 && length < max {
		return length
	}
	return max
}
