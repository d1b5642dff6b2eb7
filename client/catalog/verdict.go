package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/signing/policy"
	"stork/signing/trust"
)

// Verify follows the chain of trust of one repository: from its first root and
// the owner's key, which are pinned, to the owner's policy and the index roots
// of the publishers that it names. What was seen is durable when it returns
// (docs/ordering.md, G5). There is no verdict if the owner has published no
// policy there.
type Verify func(ctx context.Context, r Request) (*Verdict, error)

// ErrUnknown is returned by who can not verify: nothing is known of any
// repository then.
var ErrUnknown = errors.New("the repository has not been verified")

// Request says what to verify.
type Request struct {
	Pin    api.RepositoryPin
	Owner  repo.Digest
	Files  Files  // what it reads as a document is checked already
	Bundle Bundle // the same, where the origin can; or nil
	Ledger *trust.Ledger
}

// Verdict is what verifying a repository led to. Its JSON is what is
// remembered, so that the same files need not be verified again; documents are
// named by their digests and read anew.
type Verdict struct {
	Owner    repo.Digest `json:"owner"`
	Policy   repo.Object `json:"policy"`
	Shelves  []Shelf     `json:"shelves"`
	Unlisted []Outside   `json:"unlisted"`
	Version  int64       `json:"version"` // of the timestamp

	Expires time.Time      `json:"-"` // the earliest of all that was verified
	Rules   *policy.Policy `json:"-"` // what Policy names; nil: yet to be read

	// Strangers returns the indexes of publishers whom the policy does not
	// name, without keys: they verify under the repository's word alone.
	Strangers func(ctx context.Context) ([]Shelf, error) `json:"-"`
}

// Shelf is the index of one publisher.
type Shelf struct {
	Key       repo.Digest    `json:"key"` // the policy's pin
	Publisher repo.Publisher `json:"publisher"`
	Root      repo.Object    `json:"root"`
}

// Outside is a publisher whose packages are not looked at, and why.
type Outside struct {
	Publisher repo.Publisher `json:"publisher"`
	Reason    string         `json:"reason"`
}

// Bundle is a repository's tree that brings what verifying it takes all at
// once, and can say whether that is what it brought before.
type Bundle interface {
	// Known reports whether what it would bring has that digest.
	Known(ctx context.Context, digest repo.Digest) (bool, error)
	// Brought returns the digest of what it brought, and false if that was not
	// all that was asked of it.
	Brought() (repo.Digest, bool)
}

// verdict returns what the repository's files lead to: as it is remembered, if
// they still are those that were verified last, or else by verifying them.
func verdict(ctx context.Context, verify Verify, r Request) (*Verdict, error) {
	v, err := recall(ctx, r)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return verify(ctx, r)
	}
	v.Strangers = func(ctx context.Context) ([]Shelf, error) {
		now, err := verify(ctx, r)
		if err != nil || now == nil {
			return nil, err
		}
		return now.Strangers(ctx)
	}
	return v, nil
}

// recall returns nil if nothing is remembered that holds.
func recall(ctx context.Context, r Request) (*Verdict, error) {
	if r.Bundle == nil {
		return nil, nil
	}
	memo, err := r.Ledger.Recall()
	if err != nil || memo == nil {
		return nil, err
	}
	v := new(Verdict)
	if repo.DecodeStrict(memo.Value, v) != nil || v.Owner != r.Owner {
		return nil, nil // another version of this program wrote it, or another owner is pinned now
	}
	if same, err := r.Bundle.Known(ctx, memo.Files); err != nil || !same {
		return nil, err
	}
	b, err := r.Files.Document(ctx, v.Policy)
	if err != nil {
		return nil, fmt.Errorf("cannot read the owner's policy: %w", err)
	}
	if v.Rules, err = policy.Decode(b); err != nil {
		return nil, err
	}
	v.Expires = time.Unix(memo.Until, 0)
	if err := r.Ledger.Seen(); err != nil {
		return nil, err
	}
	return v, r.Ledger.Keep()
}
