package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

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
	Entry  index.Entry
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
	var found []*Candidate
	seen := map[*Candidate]bool{}
	for part := range slices.Chunk(c.questions(queries), api.MaxQueries) {
		entries, err := c.ask(ctx, part)
		if err != nil {
			return nil, err
		}
		for i := range entries {
			for _, entry := range entries[i] {
				if candidate := c.admit(part[i].shelf, entry); candidate != nil && !seen[candidate] {
					seen[candidate] = true
					found = append(found, candidate)
				}
			}
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].before(found[j]) })
	return found, nil
}

// question is a query to one publisher's index.
type question struct {
	shelf *shelf
	query api.Query
}

// questions puts every query to every index, in parts that the nest takes.
func (c *Catalog) questions(queries []api.Query) []question {
	var list []question
	for _, s := range c.shelves {
		for _, q := range queries {
			for terms := range slices.Chunk(q.Terms, api.MaxTerms) {
				list = append(list, question{s, api.Query{Index: s.root.Digest, Kind: q.Kind, Terms: terms}})
			}
		}
	}
	return list
}

// ask returns the entries that answer each question. Where the nest cuts its
// answer short, the index itself is read.
func (c *Catalog) ask(ctx context.Context, questions []question) ([][]index.Entry, error) {
	request := api.QueryRequest{Documents: true}
	for _, q := range questions {
		request.Queries = append(request.Queries, q.query)
	}
	response, err := c.origin.Query(ctx, request)
	if err != nil {
		return nil, err
	}
	if len(response.Results) != len(questions) {
		return nil, fmt.Errorf("cannot look up packages: %d answers to %d questions", len(response.Results), len(questions))
	}
	for _, f := range c.followed {
		f.files.keep(response.Documents)
	}
	answers := make([][]index.Entry, len(questions))
	for i, result := range response.Results {
		if result.More {
			answers[i], err = Scan(ctx, questions[i].shelf.files, questions[i].shelf.root, questions[i].query)
		} else {
			answers[i], err = decodeEntries(result.Entries)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot look up packages of %s: %w", questions[i].shelf.publisher, err)
		}
	}
	return answers, nil
}

func decodeEntries(list []json.RawMessage) ([]index.Entry, error) {
	entries := make([]index.Entry, len(list))
	for i, raw := range list {
		if err := repo.DecodeStrict(raw, &entries[i]); err != nil {
			return nil, fmt.Errorf("cannot read an index entry: %w", err)
		}
	}
	return entries, nil
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

// shelved is one package of one publisher. The same package may be in several
// indexes, and what policy says of it depends on whose.
type shelved struct {
	shelf *shelf
	id    repo.Digest
}

// admit asks the policy about an entry. A refused one is remembered and
// yields nil.
func (c *Catalog) admit(s *shelf, entry index.Entry) *Candidate {
	key := shelved{s, entry.Record.Digest}
	if known, ok := c.known[key]; ok {
		return known
	}
	ref := api.PackageRef{ID: key.id, Name: entry.Name, Publisher: s.publisher, Repository: s.repository}
	decision := s.policy.Decide(s.publisher, s.key, entry.NEVRA(), key.id)
	if !decision.Allowed {
		c.refused = append(c.refused, Refusal{Ref: ref, Entry: entry, Reason: decision.Reason})
		c.known[key] = nil
		return nil
	}
	candidate := &Candidate{Ref: ref, Entry: entry, Decision: decision, shelf: s}
	c.known[key] = candidate
	return candidate
}

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

// NEVRA returns the refused package's name, version and architecture.
func (r Refusal) NEVRA() repo.NEVRA { return r.Entry.NEVRA() }

// Meant reports whether a spec or requirement of that text could have meant
// the refused package: by its name, or by what it provides.
func (r Refusal) Meant(text string) bool {
	p := Package(&r.Entry, r.Ref)
	if spec, err := solve.ParseSpec(text); err == nil && spec.Matches(p) {
		return true
	}
	requirement, err := repo.ParseRequirement(text)
	return err == nil && len(Pick([]index.Entry{r.Entry}, api.Query{Kind: api.ByCapability, Terms: requirement.Names()})) > 0
}
