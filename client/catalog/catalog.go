package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing"
	"stork/signing/policy"
)

// Files is one repository's static tree, as the nest or the repository itself
// serves it. Nothing that it returns is believed before it is verified.
type Files interface {
	signing.Source
	index.Source
}

// Origin is where the catalog's facts come from.
type Origin interface {
	// Files returns the repository with that first root.
	Files(root repo.Digest) Files
	// Query answers with entries of indexes that the caller has verified.
	Query(ctx context.Context, request api.QueryRequest) (*api.QueryResponse, error)
}

// Options says what to trust and where to remember it.
type Options struct {
	Pins     *api.Pins
	Origin   Origin
	TrustDir string // one directory for each repository below it
	Disk     durable.Disk
	Now      func() time.Time
}

// Catalog is a verified view of the repositories at one moment. It is for one
// goroutine.
type Catalog struct {
	origin   Origin
	shelves  []*shelf
	followed []followed
	broken   []Broken
	unlisted []Unlisted
	refused  []Refusal
	known    map[shelved]*Candidate // nil: refused
	served   []Served
}

// Served is a pinned repository and how long what it said stays valid.
type Served struct {
	Pin     api.RepositoryPin
	Version int64 // of the timestamp
	Expires time.Time
}

// Broken is a pinned repository that could not be verified, and why.
type Broken struct {
	Pin api.RepositoryPin
	Err error
}

// shelf is the index of one publisher whom one repository's policy names.
type shelf struct {
	repository repo.Digest
	publisher  repo.Publisher
	key        repo.Digest // the policy's pin
	policy     *policy.Policy
	files      *memory
	root       repo.Object
	finder     *index.Finder // once something was verified
}

// Unlisted is a publisher whose packages the catalog does not look at, and
// why.
type Unlisted struct {
	Repository repo.Digest
	Publisher  repo.Publisher
	Reason     string
}

// ErrNoPolicy says that no pinned repository holds a policy of the owner.
var ErrNoPolicy = errors.New("the owner has published no trust policy")

// Open verifies metadata, policy and index roots. Its cost does not depend on
// how many packages there are. A repository that does not verify is left out,
// see [Catalog.Broken], unless no other serves.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	c := &Catalog{origin: o.Origin, known: map[shelved]*Candidate{}}
	policies := 0
	for _, pin := range o.Pins.Repositories {
		found, err := c.openRepository(ctx, o, pin)
		if err != nil {
			c.broken = append(c.broken, Broken{pin, fmt.Errorf("cannot verify repository %s: %w", pin.URL, err)})
		}
		if found {
			policies++
		}
	}
	switch {
	case policies > 0 && ctx.Err() == nil:
		return c, nil
	case len(c.broken) > 0:
		return nil, c.broken[0].Err
	}
	return nil, errors.Join(ErrNoPolicy, ctx.Err())
}

func (c *Catalog) openRepository(ctx context.Context, o Options, pin api.RepositoryPin) (hasPolicy bool, err error) {
	files := remember(o.Origin.Files(pin.Root))
	trust, err := signing.Open(signing.Options{
		Dir: filepath.Join(o.TrustDir, pin.Root.Hex()), Root: pin.Root, Disk: o.Disk, Now: o.Now, Deferred: true,
	})
	if err != nil {
		return false, err
	}
	if known, err := c.recall(ctx, o, pin, trust, files); known || err != nil {
		return known, err
	}
	grace := graceFile{o.Disk, filepath.Join(o.TrustDir, pin.Root.Hex(), "offline.json")}
	f, err := refresh(ctx, trust, files, o.Pins.Owner, grace)
	if err != nil || f.rules == nil {
		return false, errors.Join(err, trust.Keep())
	}
	shelves, unlisted := len(c.shelves), len(c.unlisted)
	err = c.openShelves(ctx, f)
	if err == nil {
		err = c.remember(trust, files, f, o.Pins.Owner, shelves, unlisted)
	}
	if err := errors.Join(err, trust.Keep()); err != nil { // rule G5
		c.shelves = c.shelves[:shelves] // all of a repository or nothing
		return false, err
	}
	c.followed = append(c.followed, f)
	c.served = append(c.served, Served{pin, f.snapshot.Version(), f.snapshot.Expires()})
	return true, nil
}

// refresh verifies the newest metadata and the owner's policy, without rules if
// there is none. If something has expired, it tries again with the time that the policy
// granted when it was last seen; and if the policy that this leads to grants
// less, once more with that.
func refresh(ctx context.Context, trust *signing.Client, files *memory, owner repo.Digest, grace graceFile) (followed, error) {
	for given := time.Duration(0); ; {
		f, err := verified(ctx, trust, files, owner, given)
		if errors.Is(err, signing.ErrExpired) && given == 0 {
			last, loadErr := grace.load()
			if loadErr != nil || last == 0 {
				return f, errors.Join(err, loadErr)
			}
			given = last
			continue
		}
		if err != nil {
			return f, err
		}
		granted := time.Duration(0)
		if f.rules != nil {
			granted = time.Duration(f.rules.Offline)
		}
		if err := grace.save(granted); err != nil || given <= granted {
			return f, err
		}
		given = granted
	}
}

// verified reads metadata and policy, whose expiry is judged as it was given
// ago.
func verified(ctx context.Context, trust *signing.Client, files *memory, owner repo.Digest, given time.Duration) (followed, error) {
	f := followed{repository: trust.Root(), files: files}
	var err error
	if f.snapshot, err = trust.Offline(ctx, files, given); err != nil {
		return f, err
	}
	err = f.ownersPolicy(ctx, owner)
	if errors.Is(err, fs.ErrNotExist) {
		f.rules, err = nil, nil
	}
	return f, err
}

// ownersPolicy reads the trust policy that the pinned owner has published in
// this repository. That there is none is [fs.ErrNotExist].
func (f *followed) ownersPolicy(ctx context.Context, owner repo.Digest) error {
	pin, err := f.snapshot.FindRole(ctx, owner)
	if err != nil {
		return fmt.Errorf("cannot find the owner: %w", err)
	}
	if f.policy, err = f.snapshot.Lookup(ctx, pin, signing.PolicyTarget(pin.Role.Publisher())); err != nil {
		return err
	}
	if f.rules, err = policyAt(ctx, f.files, f.policy); err != nil {
		return err
	}
	return f.rules.CheckOrigin(pin.Role, f.repository)
}

// openShelves verifies the index root of every publisher that the policy
// names. One that has not published, or that does not verify under the
// policy's pin, is left out and remembered.
func (c *Catalog) openShelves(ctx context.Context, f followed) error {
	for _, pin := range f.rules.Publishers() {
		publisher := pin.Role.Publisher()
		object, err := f.snapshot.Lookup(ctx, pin, signing.IndexTarget(publisher))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.unlisted = append(c.unlisted, Unlisted{f.repository, publisher, "has published nothing here"})
			continue
		case errors.Is(err, signing.ErrUntrusted), errors.Is(err, signing.ErrExpired), errors.Is(err, signing.ErrMissing):
			c.unlisted = append(c.unlisted, Unlisted{f.repository, publisher, err.Error()})
			continue
		case err != nil:
			return fmt.Errorf("cannot look up the index of %s: %w", publisher, err)
		}
		c.shelves = append(c.shelves, &shelf{
			repository: f.repository, publisher: publisher, key: pin.Digest, policy: f.rules,
			files: f.files, root: object,
		})
	}
	return nil
}

// Served returns the repositories that hold a policy of the owner.
func (c *Catalog) Served() []Served { return c.served }

// Broken returns the pinned repositories that do not verify: nothing of theirs
// is in the catalog.
func (c *Catalog) Broken() []Broken { return c.broken }

// Unlisted returns the publishers that the policy names but that were left
// out.
func (c *Catalog) Unlisted() []Unlisted { return c.unlisted }
