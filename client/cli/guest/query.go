package guest

import (
	"context"
	"errors"

	"stork/client/catalog"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/repo/program"
)

// query prints the candidates and installed packages that fit.
func (s *session) query(ctx context.Context, queries []api.Query, fits func(*index.Entry) bool, asJSON bool) error {
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	books, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	found, err := books.Find(ctx, queries)
	if err != nil {
		return err
	}
	var fitting []*catalog.Candidate
	for _, a := range found {
		if fits == nil || fits(&a.Entry) {
			fitting = append(fitting, a)
		}
	}
	list := candidateLines(fitting, state)
	if err := printList(s.streams, list, asJSON); err != nil {
		return err
	}
	if len(list) == 0 {
		return &program.Error{Status: ExitNotFound, Err: errors.New("nothing found")}
	}
	return nil
}

// queryCapability prints the packages of which fits holds for the capability
// that the user wrote.
func (s *session) queryCapability(ctx context.Context, kind api.QueryKind, text string, fits func(*index.Entry, repo.Capability) bool, asJSON bool) error {
	wanted, err := repo.ParseCapability(text)
	if err != nil {
		return &program.Error{Status: program.Usage, Err: err}
	}
	queries := []api.Query{{Kind: kind, Terms: []string{wanted.Name}}}
	return s.query(ctx, queries, func(e *index.Entry) bool { return fits(e, wanted) }, asJSON)
}

// provides reports whether the entry provides the capability: by its own
// name, by what it declares or by a primary path.
func provides(e *index.Entry, c repo.Capability) bool {
	self := repo.Capability{Name: string(e.Name), Op: repo.Equal, EVR: e.EVR()}
	if self.Overlaps(c) {
		return true
	}
	for _, p := range e.Provides {
		if p.Overlaps(c) {
			return true
		}
	}
	for _, p := range e.Paths {
		if p == c.Name {
			return true
		}
	}
	return false
}

// requires reports whether the entry asks for something that the capability
// could satisfy.
func requires(e *index.Entry, c repo.Capability) bool {
	for _, list := range [][]string{e.Requires, e.RequiresPre} {
		for _, text := range list {
			r, err := repo.ParseRequirement(text)
			if err == nil && mentions(r, c) {
				return true
			}
		}
	}
	return false
}

func mentions(r repo.Requirement, c repo.Capability) bool {
	if r.Op == "" {
		return r.Capability.Overlaps(c)
	}
	for _, o := range r.Operands {
		if mentions(o, c) {
			return true
		}
	}
	return false
}
