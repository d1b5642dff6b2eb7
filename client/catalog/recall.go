package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
)

// Bundle is a repository's tree that brings what verifying it takes all at
// once, and can say whether that is what it brought before.
type Bundle interface {
	// Known reports whether what it would bring has that digest.
	Known(ctx context.Context, digest repo.Digest) (bool, error)
	// Brought returns the digest of what it brought, and false if that was not
	// all that was asked of it.
	Brought() (repo.Digest, bool)
}

// verdict is what verifying a repository led to: what is remembered of it, so
// that the same files need not be verified again. Documents are named by their
// digests and read anew.
type verdict struct {
	Owner    repo.Digest      `json:"owner"`
	Policy   repo.Object      `json:"policy"`
	Shelves  []verdictShelf   `json:"shelves"`
	Unlisted []verdictOutside `json:"unlisted"`
	Version  int64            `json:"version"` // of the timestamp
}

type verdictShelf struct {
	Key       repo.Digest    `json:"key"`
	Publisher repo.Publisher `json:"publisher"`
	Root      repo.Object    `json:"root"`
}

type verdictOutside struct {
	Publisher repo.Publisher `json:"publisher"`
	Reason    string         `json:"reason"`
}

// remember notes what was verified, unless that were more files than came
// together. What follows c's first shelves and unlisted is this repository's.
func (c *Catalog) remember(trust *signing.Client, files *memory, f followed, owner repo.Digest, shelves, unlisted int) error {
	bundle, ok := files.Files.(Bundle)
	if !ok {
		return nil
	}
	digest, whole := bundle.Brought()
	if !whole {
		return nil
	}
	v := verdict{Owner: owner, Policy: f.policy, Shelves: []verdictShelf{}, Unlisted: []verdictOutside{}, Version: f.snapshot.Version()}
	for _, s := range c.shelves[shelves:] {
		v.Shelves = append(v.Shelves, verdictShelf{s.key, s.publisher, s.root})
	}
	for _, u := range c.unlisted[unlisted:] {
		v.Unlisted = append(v.Unlisted, verdictOutside{u.Publisher, u.Reason})
	}
	value, err := repo.EncodeCanonical(v)
	if err != nil {
		return err
	}
	return trust.Remember(signing.Memo{Files: digest, Until: f.snapshot.Expires().Unix(), Value: value})
}

// recall fills the catalog from what was verified before, if the same files
// still stand for it, and reports whether it did.
func (c *Catalog) recall(ctx context.Context, o Options, pin api.RepositoryPin, trust *signing.Client, files *memory) (bool, error) {
	bundle, ok := files.Files.(Bundle)
	if !ok {
		return false, nil
	}
	memo, err := trust.Recall()
	if err != nil || memo == nil {
		return false, err
	}
	var v verdict
	if repo.DecodeStrict(memo.Value, &v) != nil || v.Owner != o.Pins.Owner {
		return false, nil // another version of this program wrote it, or another owner is pinned now
	}
	if same, err := bundle.Known(ctx, memo.Files); err != nil || !same {
		return false, err
	}
	rules, err := policyAt(ctx, files, v.Policy)
	if err != nil {
		return false, err
	}
	if err := errors.Join(trust.Seen(), trust.Keep()); err != nil {
		return false, err
	}
	for _, s := range v.Shelves {
		c.shelves = append(c.shelves, &shelf{
			repository: pin.Root, publisher: s.Publisher, key: s.Key, policy: rules, files: files, root: s.Root,
		})
	}
	for _, u := range v.Unlisted {
		c.unlisted = append(c.unlisted, Unlisted{pin.Root, u.Publisher, u.Reason})
	}
	c.followed = append(c.followed, followed{repository: pin.Root, files: files, rules: rules,
		again: func(ctx context.Context) (*signing.Snapshot, error) { return trust.Refresh(ctx, files) }})
	c.served = append(c.served, Served{pin, v.Version, time.Unix(memo.Until, 0)})
	return true, nil
}

// policyAt reads a policy document.
func policyAt(ctx context.Context, files *memory, object repo.Object) (*policy.Policy, error) {
	b, err := files.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read the owner's policy: %w", err)
	}
	return policy.Decode(b)
}
