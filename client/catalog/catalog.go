package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing/policy"
	"stork/signing/trust"
)

// Files is one repository's static tree, as the nest or the repository itself
// serves it. Nothing that it returns is believed before it is verified.
type Files interface {
	trust.Source
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
	Verify   Verify
	TrustDir string // one directory for each repository below it
	Disk     durable.Disk
	Now      func() time.Time
}

// Catalog is a verified view of the repositories at one moment. It is for one
// goroutine.
type Catalog struct {
	origin   Origin
	shelves  []*shelf
	followed []*followed
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

// Open has metadata, policy and index roots verified, unless it is remembered
// what they led to. Its cost does not depend on
// how many packages there are. A repository that does not verify is left out,
// see [Catalog.Broken], unless no other serves.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	c := &Catalog{origin: o.Origin, known: map[shelved]*Candidate{}}
	policies := 0
	for _, pin := range o.Pins.Repositories {
		found, err := c.openRepository(ctx, o, pin)
		if errors.Is(err, ErrUnknown) {
			return nil, err
		}
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
	ledger, err := trust.Open(trust.Options{
		Dir: filepath.Join(o.TrustDir, pin.Root.Hex()), Root: pin.Root, Disk: o.Disk, Now: o.Now, Deferred: true,
	})
	if err != nil {
		return false, err
	}
	request := Request{Pin: pin, Owner: o.Pins.Owner, Files: files, Ledger: ledger}
	request.Bundle, _ = files.Files.(Bundle)
	v, err := verdict(ctx, o.Verify, request)
	if err != nil || v == nil {
		return false, err
	}
	f := &followed{pin: pin, files: files, verdict: v}
	for _, s := range v.Shelves {
		c.shelves = append(c.shelves, f.shelf(s))
	}
	for _, u := range v.Unlisted {
		c.unlisted = append(c.unlisted, Unlisted{pin.Root, u.Publisher, u.Reason})
	}
	c.followed = append(c.followed, f)
	c.served = append(c.served, Served{pin, v.Version, v.Expires})
	return true, nil
}

// followed is a repository with its owner's policy.
type followed struct {
	pin     api.RepositoryPin
	files   *memory
	verdict *Verdict
}

func (f *followed) shelf(s Shelf) *shelf {
	return &shelf{
		repository: f.pin.Root, publisher: s.Publisher, key: s.Key, policy: f.verdict.Rules, files: f.files, root: s.Root,
	}
}

// Served returns the repositories that hold a policy of the owner.
func (c *Catalog) Served() []Served { return c.served }

// Broken returns the pinned repositories that do not verify: nothing of theirs
// is in the catalog.
func (c *Catalog) Broken() []Broken { return c.broken }

// Unlisted returns the publishers that the policy names but that were left
// out.
func (c *Catalog) Unlisted() []Unlisted { return c.unlisted }
