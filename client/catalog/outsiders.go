package catalog

import (
	"context"
	"slices"

	"stork/client/solve"
	"stork/nestd/api"
	"stork/repo"
)

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
		strangers, err := f.verdict.Strangers(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range strangers {
			questions = append(questions, question{f.shelf(s), api.Query{Index: s.Root.Digest, Kind: api.ByCapability, Terms: terms}})
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
