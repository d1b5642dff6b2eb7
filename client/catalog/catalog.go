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
	grace := graceFile{o.Disk, filepath.Join(o.TrustDir, pin.Root.Hex(), "offline.json")}
	snapshot, rules, err := refresh(ctx, trust, files, o.Pins.Owner, grace)
	if err != nil || rules == nil {
		return false, errors.Join(err, trust.Keep())
	}
	shelves := len(c.shelves)
	err = c.openShelves(ctx, snapshot, files, pin.Root, rules)
	if err := errors.Join(err, trust.Keep()); err != nil { // rule G5
		c.shelves = c.shelves[:shelves] // all of a repository or nothing
		return false, err
	}
	c.followed = append(c.followed, followed{snapshot, files, rules})
	c.served = append(c.served, Served{pin, snapshot.Version(), snapshot.Expires()})
	return true, nil
}

// refresh verifies the newest metadata and the owner's policy, nil if there is
// none. If something has expired, it tries again with the time that the policy
// granted when it was last seen; and if the policy that this leads to grants
// less, once more with that.
func refresh(ctx context.Context, trust *signing.Client, files Files, owner repo.Digest, grace graceFile) (*signing.Snapshot, *policy.Policy, error) {
	for given := time.Duration(0); ; {
		snapshot, rules, err := verified(ctx, trust, files, owner, given)
		if errors.Is(err, signing.ErrExpired) && given == 0 {
			last, loadErr := grace.load()
			if loadErr != nil || last == 0 {
				return nil, nil, errors.Join(err, loadErr)
			}
			given = last
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		granted := time.Duration(0)
		if rules != nil {
			granted = time.Duration(rules.Offline)
		}
		if err := grace.save(granted); err != nil || given <= granted {
			return snapshot, rules, err
		}
		given = granted
	}
}

// verified reads metadata and policy, whose expiry is judged as it was given
// ago.
func verified(ctx context.Context, trust *signing.Client, files Files, owner repo.Digest, given time.Duration) (*signing.Snapshot, *policy.Policy, error) {
	snapshot, err := trust.Offline(ctx, files, given)
	if err != nil {
		return nil, nil, err
	}
	rules, err := ownersPolicy(ctx, snapshot, files, owner)
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot, nil, nil
	}
	return snapshot, rules, err
}

// ownersPolicy reads the trust policy that the pinned owner has published in
// this repository. That there is none is [fs.ErrNotExist].
func ownersPolicy(ctx context.Context, s *signing.Snapshot, files Files, owner repo.Digest) (*policy.Policy, error) {
	pin, err := s.FindRole(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("cannot find the owner: %w", err)
	}
	object, err := s.Lookup(ctx, pin, signing.PolicyTarget(pin.Role.Publisher()))
	if err != nil {
		return nil, err
	}
	b, err := files.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read the owner's policy: %w", err)
	}
	rules, err := policy.Decode(b)
	if err != nil {
		return nil, err
	}
	return rules, rules.CheckOrigin(pin.Role, s.Repository())
}

// openShelves verifies the index root of every publisher that the policy
// names. One that has not published, or that does not verify under the
// policy's pin, is left out and remembered.
func (c *Catalog) openShelves(ctx context.Context, s *signing.Snapshot, files *memory, root repo.Digest, rules *policy.Policy) error {
	for _, pin := range rules.Publishers() {
		publisher := pin.Role.Publisher()
		object, err := s.Lookup(ctx, pin, signing.IndexTarget(publisher))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.unlisted = append(c.unlisted, Unlisted{root, publisher, "has published nothing here"})
			continue
		case errors.Is(err, signing.ErrUntrusted), errors.Is(err, signing.ErrExpired), errors.Is(err, signing.ErrMissing):
			c.unlisted = append(c.unlisted, Unlisted{root, publisher, err.Error()})
			continue
		case err != nil:
			return fmt.Errorf("cannot look up the index of %s: %w", publisher, err)
		}
		c.shelves = append(c.shelves, &shelf{
			repository: root, publisher: publisher, key: pin.Digest, policy: rules,
			files: files, root: object,
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
