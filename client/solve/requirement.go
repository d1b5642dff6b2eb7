package solve

import (
	"errors"
	"slices"

	"stork/repo"
)

// clause is one or-part of a compiled requirement: one of lits must hold.
type clause struct {
	lits []lit
	alts []uint8 // parallel to lits; nil: one alternative
}

// maxClauses bounds what a rich dependency may expand to. Real ones stay
// below ten; a hostile one could double with every operator.
const maxClauses = 256

var (
	errTooComplex = errors.New("too many combinations")
	errNotASet    = errors.New("with and without join capabilities of one package only")
)

// compile returns the clauses whose conjunction is r, or with negate those of
// its opposite. No clauses: always true; an empty clause: never.
// The meanings are libsolv's (pool_normalize_complex_dep): "a if b" is a or
// not b, "a unless b" is a and not b.
func (p *pool) compile(r repo.Requirement, negate bool) ([]clause, error) {
	switch r.Op {
	case "", repo.With, repo.Without:
		set, err := p.providers(r)
		if err != nil {
			return nil, err
		}
		return setClauses(set, negate), nil
	case repo.And:
		return p.join(r.Operands, negate, negate)
	case repo.Or:
		return p.join(r.Operands, negate, !negate)
	}
	return p.conditional(r, negate)
}

// setClauses says that one package of the set is installed, or none.
func setClauses(set []lit, negate bool) []clause {
	system := slices.Contains(set, systemVar)
	if !negate {
		if system {
			return nil
		}
		return []clause{{lits: set}}
	}
	if system {
		return []clause{{}}
	}
	out := make([]clause, len(set))
	for i, v := range set {
		out[i] = clause{lits: []lit{-v}}
	}
	return out
}

// join compiles operands and joins them, by or if alternatives, else by and.
func (p *pool) join(operands []repo.Requirement, negate, alternatives bool) ([]clause, error) {
	var out []clause
	for i, o := range operands {
		c, err := p.compile(o, negate)
		if err != nil {
			return nil, err
		}
		switch {
		case !alternatives:
			out = append(out, c...)
		case i == 0:
			out = c
		default:
			out = product(out, c)
		}
		if len(out) > maxClauses {
			return nil, errTooComplex
		}
	}
	return out, nil
}

// product distributes or over and.
func product(left, right []clause) []clause {
	var out []clause
	for _, l := range left {
		for _, r := range right {
			if c, trivial := l.or(r); !trivial {
				out = addStrongest(out, c)
			}
			if len(out) > maxClauses {
				return out
			}
		}
	}
	return out
}

// addStrongest adds c, unless a clause of the list says as much already, and
// drops those that c says more than.
func addStrongest(list []clause, c clause) []clause {
	within := func(a, b clause) bool {
		return !slices.ContainsFunc(a.lits, func(l lit) bool { return !slices.Contains(b.lits, l) })
	}
	if slices.ContainsFunc(list, func(o clause) bool { return within(o, c) }) {
		return list
	}
	return append(slices.DeleteFunc(list, func(o clause) bool { return within(c, o) }), c)
}

// or merges two clauses; those of o are later alternatives. It reports
// whether the result always holds.
func (c clause) or(o clause) (clause, bool) {
	out := clause{lits: slices.Clone(c.lits), alts: slices.Clone(c.alts)}
	if out.alts == nil {
		out.alts = make([]uint8, len(c.lits))
	}
	last := uint8(0)
	if len(out.alts) > 0 {
		last = slices.Max(out.alts)
	}
	for i, l := range o.lits {
		if slices.Contains(c.lits, -l) {
			return clause{}, true
		}
		if slices.Contains(c.lits, l) {
			continue
		}
		alt := int(last) + 1
		if o.alts != nil {
			alt += int(o.alts[i])
		}
		out.lits, out.alts = append(out.lits, l), append(out.alts, uint8(min(alt, 255)))
	}
	return out, false
}

// conditional compiles if and unless.
func (p *pool) conditional(r repo.Requirement, negate bool) ([]clause, error) {
	then, err := p.compile(r.Operands[0], negate)
	if err != nil {
		return nil, err
	}
	condition := r.Operands[1]
	// "a if b" is a or not b; its opposite is not a and b. "a unless b" is a
	// and not b; its opposite is not a or b. With an else branch c, the other
	// half is c or b, respectively c and b, joined the other way about.
	holds, err := p.compile(condition, false)
	if err != nil {
		return nil, err
	}
	fails, err := p.compile(condition, true)
	if err != nil {
		return nil, err
	}
	first, second := fails, holds // beside "then", beside "otherwise"
	isOr := r.Op == repo.If
	if negate {
		first, second = second, first
		isOr = !isOr
	}
	combine := func(a, b []clause, or bool) []clause {
		if or {
			return product(a, b)
		}
		return slices.Concat(a, b)
	}
	out := combine(then, first, isOr)
	if len(r.Operands) == 3 {
		otherwise, err := p.compile(r.Operands[2], negate)
		if err != nil {
			return nil, err
		}
		out = combine(out, combine(otherwise, second, isOr), !isOr)
	}
	if len(out) > maxClauses {
		return nil, errTooComplex
	}
	return out, nil
}

// providers returns the packages that r is about, where r is a capability or
// joins capabilities of one package.
func (p *pool) providers(r repo.Requirement) ([]lit, error) {
	if r.Op == "" {
		return p.whatProvides(r.Capability), nil
	}
	var out []lit
	for i, o := range r.Operands {
		set, err := p.providers(o)
		if err != nil {
			return nil, err
		}
		in := func(v lit) bool { return slices.Contains(set, v) }
		switch {
		case i == 0:
			out = slices.Clone(set)
		case r.Op == repo.With, r.Op == repo.And:
			out = slices.DeleteFunc(out, func(v lit) bool { return !in(v) })
		case r.Op == repo.Without:
			out = slices.DeleteFunc(out, in)
		case r.Op == repo.Or:
			out = append(out, slices.DeleteFunc(slices.Clone(set), func(v lit) bool { return slices.Contains(out, v) })...)
		default:
			return nil, errNotASet
		}
	}
	return out, nil
}

// wanted calls visit with every capability that installing something could
// satisfy r by, or with negate its opposite. A mere condition is left out: a
// package that nothing else brings in does not become true by itself.
func wanted(r repo.Requirement, negate bool, visit func(repo.Capability)) {
	switch r.Op {
	case "":
		if !negate {
			visit(r.Capability)
		}
	case repo.With, repo.Without:
		if !negate {
			wanted(r.Operands[0], false, visit)
		}
	case repo.If, repo.Unless:
		wanted(r.Operands[0], negate, visit)
		wanted(r.Operands[1], !negate, visit)
		if len(r.Operands) == 3 {
			wanted(r.Operands[1], negate, visit) // the way out of an impossible else
			wanted(r.Operands[2], negate, visit)
		}
	default:
		for _, o := range r.Operands {
			wanted(o, negate, visit)
		}
	}
}

// mentioned calls visit with every capability in r.
func mentioned(r repo.Requirement, visit func(repo.Capability)) {
	if r.Op == "" {
		visit(r.Capability)
		return
	}
	for _, o := range r.Operands {
		mentioned(o, visit)
	}
}
