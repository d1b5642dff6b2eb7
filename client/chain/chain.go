package chain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"stork/client/catalog"
	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
	"stork/signing/trust"
)

// chain is a repository being followed.
type chain struct {
	catalog.Request
	client   *signing.Client
	snapshot *signing.Snapshot
	verdict  *catalog.Verdict
}

// Verify implements [catalog.Verify]. What it has seen is durable when it
// returns (docs/ordering.md, G5).
func Verify(ctx context.Context, r catalog.Request) (*catalog.Verdict, error) {
	c := &chain{Request: r, client: &signing.Client{Ledger: r.Ledger}}
	err := c.refresh(ctx)
	if err == nil && c.verdict != nil {
		err = c.publishers(ctx)
	}
	if err == nil && c.verdict != nil {
		err = c.remember()
	}
	if err := errors.Join(err, c.client.Keep()); err != nil {
		return nil, err
	}
	return c.verdict, nil
}

// refresh verifies the newest metadata and the owner's policy. If something
// has expired, it tries again with the time that the policy granted when it was
// last seen; and if the policy that this leads to grants less, once more with
// that.
func (c *chain) refresh(ctx context.Context) error {
	grace := graceFile{c.Ledger.Disk, filepath.Join(c.Ledger.Dir, "offline.json")}
	for given := time.Duration(0); ; {
		err := c.verified(ctx, given)
		if errors.Is(err, signing.ErrExpired) && given == 0 {
			last, loadErr := grace.load()
			if loadErr != nil || last == 0 {
				return errors.Join(err, loadErr)
			}
			given = last
			continue
		}
		if err != nil {
			return err
		}
		granted := time.Duration(0)
		if c.verdict != nil {
			granted = time.Duration(c.verdict.Rules.Offline)
		}
		if err := grace.save(granted); err != nil || given <= granted {
			return err
		}
		given = granted
	}
}

// verified reads metadata and policy, whose expiry is judged as it was given
// ago. Without a policy there is no verdict.
func (c *chain) verified(ctx context.Context, given time.Duration) error {
	c.verdict = nil
	var err error
	if c.snapshot, err = c.client.Offline(ctx, c.Files, given); err != nil {
		return err
	}
	v := &catalog.Verdict{Owner: c.Owner, Version: c.snapshot.Version(), Strangers: c.strangers}
	err = c.ownersPolicy(ctx, v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		c.verdict = v
	}
	return err
}

// ownersPolicy reads the trust policy that the pinned owner has published in
// this repository. That there is none is [fs.ErrNotExist].
func (c *chain) ownersPolicy(ctx context.Context, v *catalog.Verdict) error {
	pin, err := c.snapshot.FindRole(ctx, c.Owner)
	if err != nil {
		return fmt.Errorf("cannot find the owner: %w", err)
	}
	if v.Policy, err = c.snapshot.Lookup(ctx, pin, signing.PolicyTarget(pin.Role.Publisher())); err != nil {
		return err
	}
	b, err := c.Files.Document(ctx, v.Policy)
	if err != nil {
		return fmt.Errorf("cannot read the owner's policy: %w", err)
	}
	if v.Rules, err = policy.Decode(b); err != nil {
		return err
	}
	return v.Rules.CheckOrigin(pin.Role, c.Pin.Root)
}

// publishers verifies the index root of every publisher that the policy
// names. One that has not published, or that does not verify under the
// policy's pin, is left out and remembered.
func (c *chain) publishers(ctx context.Context) error {
	v := c.verdict
	v.Shelves, v.Unlisted = []catalog.Shelf{}, []catalog.Outside{}
	for _, pin := range v.Rules.Publishers() {
		publisher := pin.Role.Publisher()
		object, err := c.snapshot.Lookup(ctx, pin, signing.IndexTarget(publisher))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			v.Unlisted = append(v.Unlisted, catalog.Outside{Publisher: publisher, Reason: "has published nothing here"})
		case amiss(err):
			v.Unlisted = append(v.Unlisted, catalog.Outside{Publisher: publisher, Reason: err.Error()})
		case err != nil:
			return fmt.Errorf("cannot look up the index of %s: %w", publisher, err)
		default:
			v.Shelves = append(v.Shelves, catalog.Shelf{Key: pin.Digest, Publisher: publisher, Root: object})
		}
	}
	v.Expires = c.snapshot.Expires()
	return nil
}

// amiss reports whether an error says that a role itself is at fault.
func amiss(err error) bool {
	return errors.Is(err, signing.ErrUntrusted) || errors.Is(err, signing.ErrExpired) || errors.Is(err, signing.ErrMissing)
}

// remember notes what was verified, unless that were more files than came
// together.
func (c *chain) remember() error {
	if c.Bundle == nil {
		return nil
	}
	digest, whole := c.Bundle.Brought()
	if !whole {
		return nil
	}
	value, err := repo.EncodeCanonical(c.verdict)
	if err != nil {
		return err
	}
	return c.client.Remember(trust.Memo{Files: digest, Until: c.verdict.Expires.Unix(), Value: value})
}

// strangers returns the indexes of publishers in the repository whom the
// policy does not name, by the repository's word alone. One whose index can not
// be had has nothing to be told of.
func (c *chain) strangers(ctx context.Context) ([]catalog.Shelf, error) {
	named := map[repo.Publisher]bool{}
	for _, s := range c.verdict.Shelves {
		named[s.Publisher] = true
	}
	var list []catalog.Shelf
	for _, role := range c.snapshot.Roles() {
		publisher := role.Publisher()
		if role.IsOwner() || named[publisher] {
			continue
		}
		object, err := c.snapshot.LookupDelegated(ctx, role, signing.IndexTarget(publisher))
		switch {
		case errors.Is(err, fs.ErrNotExist), amiss(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("cannot look up the index of %s: %w", publisher, err)
		}
		list = append(list, catalog.Shelf{Publisher: publisher, Root: object})
	}
	return list, nil
}
