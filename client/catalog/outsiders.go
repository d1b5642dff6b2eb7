package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"stork/client/solve"
	"stork/nestd/api"
	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
)

// followed is a repository with its owner's policy.
type followed struct {
	repository repo.Digest
	files      *memory
	policy     repo.Object // what rules were read from
	rules      *policy.Policy
	snapshot   *signing.Snapshot // nil where what was verified is remembered
	again      func(context.Context) (*signing.Snapshot, error)
}

// verify returns the repository's snapshot, which is verified now if what it
// led to was remembered.
func (f *followed) verify(ctx context.Context) (*signing.Snapshot, error) {
	if f.snapshot != nil {
		return f.snapshot, nil
	}
	return f.again(ctx)
}

// Refusals returns the packages that a spec or requirement of that text could
// have meant and that policy does not admit: those that were found so far,
// and those of publishers whom policy does not name, who are asked now. It is
// for telling "not trusted" from "not there"; nothing that it returns can be
// installed.
func (c *Catalog) Refusals(ctx context.Context, text string) ([]Refusal, error) {
	outside, err := c.outsiders(ctx, termsOf(text))
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(c.refused), outside...)
	return slices.DeleteFunc(all, func(r Refusal) bool { return !r.Meant(text) }), nil
}

// termsOf returns the names of what a spec or requirement asks for.
func termsOf(text string) []string {
	if spec, err := solve.ParseSpec(text); err == nil {
		switch spec.Kind {
		case solve.NameSpec:
			return []string{string(spec.Name)}
		case solve.PathSpec, solve.CapabilitySpec:
			return []string{spec.Capability.Name}
		}
	}
	if requirement, err := repo.ParseRequirement(text); err == nil {
		return requirement.Names()
	}
	return nil
}

// outsiders asks the indexes of publishers whom the owner's policy does not
// name. Their indexes verify under the repository's word alone.
func (c *Catalog) outsiders(ctx context.Context, terms []string) ([]Refusal, error) {
	if len(terms) == 0 {
		return nil, nil
	}
	var questions []question
	for _, f := range c.followed {
		strangers, err := c.strangers(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, s := range strangers {
			questions = append(questions, question{s, api.Query{Index: s.root.Digest, Kind: api.ByCapability, Terms: terms}})
		}
	}
	var found []Refusal
	for part := range slices.Chunk(questions, api.MaxQueries) {
		answers, err := c.ask(ctx, part)
		if err != nil {
			return nil, err
		}
		for i, entries := range answers {
			s := part[i].shelf
			for _, e := range entries {
				ref := api.PackageRef{ID: e.Record.Digest, Name: e.Name, Publisher: s.publisher, Repository: s.repository}
				decision := s.policy.Decide(s.publisher, s.key, e.NEVRA(), ref.ID)
				found = append(found, Refusal{Ref: ref, Entry: e, Reason: decision.Reason})
			}
		}
	}
	return found, nil
}

// strangers returns the indexes of publishers in a repository that are not on
// the catalog's shelves.
func (c *Catalog) strangers(ctx context.Context, f followed) ([]*shelf, error) {
	snapshot, err := f.verify(ctx)
	if err != nil {
		return nil, err
	}
	var list []*shelf
	for _, role := range snapshot.Roles() {
		publisher, repository := role.Publisher(), f.repository
		if role.IsOwner() || slices.ContainsFunc(c.shelves, func(s *shelf) bool {
			return s.publisher == publisher && s.repository == repository
		}) {
			continue
		}
		object, err := snapshot.LookupDelegated(ctx, role, signing.IndexTarget(publisher))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, signing.ErrUntrusted),
			errors.Is(err, signing.ErrExpired), errors.Is(err, signing.ErrMissing):
			continue // such a publisher has nothing to be told of
		case err != nil:
			return nil, fmt.Errorf("cannot look up the index of %s: %w", publisher, err)
		}
		list = append(list, &shelf{repository: repository, publisher: publisher, policy: f.rules, files: f.files, root: object})
	}
	return list, nil
}
