package catalog

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"stork/client/solve"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/signing/policy"
)

// Candidate is a package that policy admits. Until [Catalog.Verify] it is the
// nest's word.
type Candidate struct {
	Ref      api.PackageRef
	Entry    index.Entry
	Decision policy.Decision
	shelf    *shelf
}

// Refusal is a package that was found but that policy does not admit.
type Refusal struct {
	Ref    api.PackageRef
	NEVRA  repo.NEVRA
	Reason string
}

// Lookup implements [solve.Provider].
func (c *Catalog) Lookup(ctx context.Context, queries []solve.Query) ([]*solve.Package, error) {
	var asked []api.Query
	for _, q := range queries {
		asked = append(asked, api.Query{Kind: api.QueryKind(q.Kind), Terms: q.Terms})
	}
	found, err := c.Find(ctx, asked)
	if err != nil {
		return nil, err
	}
	packages := make([]*solve.Package, len(found))
	for i, candidate := range found {
		packages[i] = candidate.Package()
	}
	return packages, nil
}

// Find returns the candidates that match one of the queries, each once, by
// name, publisher's preference and version, newest first. The queries' Index
// is filled in here: each is asked of every publisher that policy names.
func (c *Catalog) Find(ctx context.Context, queries []api.Query) ([]*Candidate, error) {
	var request api.QueryRequest
	var from []*shelf
	for _, s := range c.shelves {
		for _, q := range queries {
			for terms := q.Terms; len(terms) > 0; terms = terms[min(len(terms), api.MaxTerms):] {
				part := api.Query{Index: s.root.Digest, Kind: q.Kind, Terms: terms[:min(len(terms), api.MaxTerms)]}
				request.Queries = append(request.Queries, part)
				from = append(from, s)
			}
		}
	}
	if len(request.Queries) == 0 {
		return nil, nil
	}
	response, err := c.origin.Query(ctx, request)
	if err != nil {
		return nil, err
	}
	if len(response.Results) != len(request.Queries) {
		return nil, fmt.Errorf("cannot look up packages: %d answers to %d questions", len(response.Results), len(request.Queries))
	}
	var found []*Candidate
	seen := map[*Candidate]bool{}
	for i, result := range response.Results {
		for _, raw := range result.Entries {
			candidate, err := c.admit(from[i], raw)
			if err != nil {
				return nil, err
			}
			if candidate != nil && !seen[candidate] {
				seen[candidate] = true
				found = append(found, candidate)
			}
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].before(found[j]) })
	return found, nil
}

func (a *Candidate) before(b *Candidate) bool {
	if a.Entry.Name != b.Entry.Name {
		return a.Entry.Name < b.Entry.Name
	}
	if a.Decision.Rule != b.Decision.Rule {
		return a.Decision.Rule < b.Decision.Rule
	}
	return a.Entry.EVR().Compare(b.Entry.EVR()) > 0
}

// admit decodes an entry and asks the policy. A refused one is remembered
// and yields nil.
func (c *Catalog) admit(s *shelf, raw []byte) (*Candidate, error) {
	var entry index.Entry
	if err := repo.DecodeStrict(raw, &entry); err != nil {
		return nil, fmt.Errorf("cannot read an index entry: %w", err)
	}
	id := entry.Record.Digest
	if known, ok := c.known[id]; ok && (known == nil || known.shelf == s) {
		return known, nil
	}
	ref := api.PackageRef{ID: id, Name: entry.Name, Publisher: s.publisher, Repository: s.repository}
	decision := s.policy.Decide(s.publisher, s.key, entry.NEVRA(), id)
	if !decision.Allowed {
		c.refused = append(c.refused, Refusal{ref, entry.NEVRA(), decision.Reason})
		c.known[id] = nil
		return nil, nil
	}
	candidate := &Candidate{Ref: ref, Entry: entry, Decision: decision, shelf: s}
	c.known[id] = candidate
	return candidate, nil
}

// Refused returns what was found so far but not admitted.
func (c *Catalog) Refused() []Refusal { return c.refused }

// Package returns the candidate as the solver sees it; Key is the candidate.
func (a *Candidate) Package() *solve.Package {
	p := Package(&a.Entry, a.Ref)
	p.Priority, p.Key = a.Decision.Rule, a
	return p
}

// Package returns an index entry as the solver sees it.
func Package(e *index.Entry, ref api.PackageRef) *solve.Package {
	return &solve.Package{
		Name: e.Name, EVR: e.EVR(), Arch: e.Arch, Publisher: ref.Publisher, ID: ref.ID.Hex(),
		Provides: e.Provides, Obsoletes: e.Obsoletes, Requires: e.Requires, RequiresPre: e.RequiresPre,
		Conflicts: e.Conflicts, Recommends: e.Recommends, Suggests: e.Suggests,
		Supplements: e.Supplements, Enhances: e.Enhances, Paths: e.Paths,
	}
}

// Named reports whether a spec or capability of that text could have meant
// the refused package: by its name, alone or with a version.
func (r Refusal) Named(text string) bool {
	name, _, _ := strings.Cut(text, " ")
	return name == string(r.NEVRA.Name) || strings.HasPrefix(text, string(r.NEVRA.Name)+"=") ||
		strings.HasPrefix(text, string(r.NEVRA.Name)+"<") || strings.HasPrefix(text, string(r.NEVRA.Name)+">")
}
