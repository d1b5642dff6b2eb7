package solve

import (
	"fmt"
	"slices"

	"stork/repo"
)

// maxRules bounds what the universe's dependencies expand to.
const maxRules = 4_000_000

// compiled is a requirement, or its opposite, as clauses.
type compiled struct {
	clauses []clause
	err     error
}

// build writes down every rule: packages', then installed ones', then jobs',
// then those that are only wishes.
func (s *solver) build() error {
	s.sat.add(rule{p: systemVar})
	needs, refusals := map[string]compiled{}, map[string]compiled{}
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		s.addNeeds(v, needs)
		s.addRefusals(v, refusals)
		s.addObsoletes(v)
		if len(s.sat.rules) > maxRules {
			return fmt.Errorf("cannot solve: more than %d rules", maxRules)
		}
	}
	s.addGroups()
	s.addForbidden()
	if !s.request.AllowErasing {
		s.addKept()
	}
	for _, j := range s.jobs {
		s.addJob(j)
	}
	if len(s.installed) > 0 {
		s.addChoices()
	}
	return nil
}

func (s *solver) compileOnce(cache map[string]compiled, text string, negate bool) compiled {
	if c, ok := cache[text]; ok {
		return c
	}
	var c compiled
	r, err := s.parse(text)
	if err == nil {
		c.clauses, err = s.compile(r, negate)
	}
	c.err = err
	cache[text] = c
	return c
}

// addNeeds adds a rule for every clause of every requirement. What an
// installed package lacks already is not this transaction's to repair.
func (s *solver) addNeeds(v lit, cache map[string]compiled) {
	p := s.pkgs[v]
	p.requirements(func(text string) {
		c := s.compileOnce(cache, text, false)
		if p.Installed && (c.err != nil || !s.holdBefore(c.clauses)) {
			return
		}
		if c.err != nil {
			s.sat.add(rule{p: -v, kind: Unreadable, pkg: v, req: text})
			return
		}
		for _, clause := range c.clauses {
			s.addClause(v, clause, Needs, text)
		}
	})
}

// addClause adds "v needs the clause" and notes when it becomes urgent.
func (s *solver) addClause(v lit, c clause, kind LineKind, text string) {
	if slices.Contains(c.lits, v) {
		return // it provides that itself
	}
	n := s.sat.add(rule{p: -v, d: c.lits, alts: c.alts, kind: kind, pkg: v, req: text})
	s.needRules[v] = append(s.needRules[v], n)
	for _, l := range c.lits {
		if l < 0 {
			s.needRules[-l] = append(s.needRules[-l], n)
		}
	}
}

// holdBefore reports whether clauses hold for what is installed now.
func (s *solver) holdBefore(clauses []clause) bool {
	return holds(clauses, func(v lit) bool { return v == systemVar || s.pkgs[v].Installed })
}

func holds(clauses []clause, installed func(lit) bool) bool {
	for _, c := range clauses {
		ok := slices.ContainsFunc(c.lits, func(l lit) bool { return installed(l.v()) == (l > 0) })
		if !ok {
			return false
		}
	}
	return true
}

// addRefusals adds the conflicts. A package never conflicts with itself, and
// what conflicts among installed packages stays as it is.
func (s *solver) addRefusals(v lit, cache map[string]compiled) {
	p := s.pkgs[v]
	for _, text := range p.Conflicts {
		c := s.compileOnce(cache, text, true)
		if c.err != nil {
			if !p.Installed {
				s.sat.add(rule{p: -v, kind: Unreadable, pkg: v, req: text})
			}
			continue
		}
		for _, one := range c.clauses {
			switch {
			case slices.Equal(one.lits, []lit{-v}):
			case p.Installed && !s.holdBefore([]clause{one}):
			case len(one.lits) == 0:
				s.sat.add(rule{p: -v, kind: SystemConflict, pkg: v, req: text})
			default:
				s.addClause(v, one, ConflictsWith, text)
			}
		}
	}
}

// addObsoletes keeps a package apart from what it obsoletes.
func (s *solver) addObsoletes(v lit) {
	p := s.pkgs[v]
	for _, c := range p.Obsoletes {
		for _, o := range s.byName[repo.Name(c.Name)] {
			other := s.pkgs[o]
			if o == v || !p.obsoletes(other) || !other.self().Overlaps(c) || p.Installed && other.Installed {
				continue
			}
			s.sat.add(rule{p: -v, d: []lit{-o}, kind: ObsoletedBy, pkg: v, req: c.String()})
		}
	}
}

// addGroups lets at most one version of a package be installed; of those
// that may stand beside each other, one build of a version.
func (s *solver) addGroups() {
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		list := s.byName[s.pkgs[v].Name]
		if len(list) < 2 || list[0] != v {
			continue
		}
		var single []lit
		several := false
		for _, o := range list {
			if s.pkgs[o].Multi {
				several = true
			} else {
				single = append(single, o)
			}
		}
		if !several && s.countInstalled(single) <= 1 {
			s.sat.group(single)
			continue
		}
		s.addExclusions(list)
	}
}

func (s *solver) countInstalled(list []lit) (n int) {
	for _, v := range list {
		if s.pkgs[v].Installed {
			n++
		}
	}
	return n
}

// addExclusions writes a group's pairs out, where not all of them exclude
// each other.
func (s *solver) addExclusions(list []lit) {
	for i, a := range list {
		for _, b := range list[i+1:] {
			pa, pb := s.pkgs[a], s.pkgs[b]
			beside := pa.Multi && pb.Multi && pa.EVR.Compare(pb.EVR) != 0
			if !beside && !(pa.Installed && pb.Installed) {
				s.sat.add(rule{p: -a, d: []lit{-b}, kind: SameName, pkg: a})
			}
		}
	}
}

// addForbidden leaves out what would replace an installed package against
// the rules.
func (s *solver) addForbidden() {
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		for _, q := range s.replaced[v] {
			if kind := s.forbidden(v, q); kind != "" && !s.removed(q) {
				s.sat.add(rule{p: -v, kind: kind, pkg: v, req: s.pkgs[q].String()})
				break
			}
		}
	}
}

// addKept keeps every installed package, or what takes its place.
func (s *solver) addKept() {
	for _, q := range s.installed {
		if !s.removed(q) {
			s.sat.add(rule{p: q, d: s.successors[q], kind: Kept, pkg: q})
		}
	}
}

func (s *solver) addJob(j job) {
	switch {
	case j.satisfied:
	case j.Action == Install:
		list := j.candidates
		if s.request.Best {
			list = s.bestOf(list)
		}
		s.addJobRule(j, list)
	case j.Action == Remove:
		for _, v := range j.candidates {
			for _, o := range s.byName[s.pkgs[v].Name] {
				if o == v || j.Spec.Matches(s.pkgs[o]) {
					s.sat.add(rule{p: -o, kind: Unwanted, pkg: o, req: j.Spec.Text, job: j.number})
				}
			}
		}
	case j.Action == Upgrade && s.request.Best:
		for _, q := range j.candidates {
			if list := s.targets(j, q); len(list) > 0 {
				s.addBestTarget(j, q, list)
			}
		}
	}
}

// addJobRule adds "one of list"; with Best the message differs.
func (s *solver) addJobRule(j job, list []lit) {
	kind := Wanted
	if len(list) < len(j.candidates) {
		kind = NotBest
	}
	s.sat.add(rule{p: list[0], d: list[1:], kind: kind, req: j.Spec.Text, job: j.number})
}

// bestOf returns the best version of each name in list.
func (s *solver) bestOf(list []lit) []lit {
	return slices.DeleteFunc(slices.Clone(list), func(v lit) bool {
		return slices.ContainsFunc(list, func(o lit) bool {
			a, b := s.pkgs[o], s.pkgs[v]
			return a.Name == b.Name && (a.Priority < b.Priority || a.Priority == b.Priority && a.EVR.Compare(b.EVR) > 0)
		})
	})
}

func (s *solver) addBestTarget(j job, q lit, list []lit) {
	first := s.pkgs[list[0]]
	best := slices.DeleteFunc(slices.Clone(list), func(v lit) bool {
		p := s.pkgs[v]
		return p.Name == first.Name && p.EVR.Compare(first.EVR) != 0 || p.Name != first.Name && p.Name == s.pkgs[q].Name
	})
	s.sat.add(rule{p: best[0], d: best[1:], kind: NotBest, pkg: q, req: s.pkgs[q].String(), job: j.number})
}

// addChoices adds libsolv's choice rules: where a requirement can be met by
// an installed package or an update of one, no new package is brought in for
// it. They are wishes, dropped one by one if there is no other way.
func (s *solver) addChoices() {
	last := len(s.sat.rules)
	for n := range last {
		r := s.sat.rules[n]
		if r.kind != Needs || r.alts != nil || len(r.d) < 2 {
			continue
		}
		v := -r.p
		if s.pkgs[v].Installed && !s.mayDrop(v, r.req) {
			continue
		}
		if good := s.atHome(v, r.d); len(good) > 0 {
			s.sat.add(rule{p: r.p, d: good, kind: Needs, pkg: v, req: r.req, weak: true})
		}
	}
}

// mayDrop reports whether a successor of q does without the requirement.
func (s *solver) mayDrop(q lit, text string) bool {
	return slices.ContainsFunc(s.successors[q], func(v lit) bool {
		p := s.pkgs[v]
		return !slices.Contains(p.Requires, text) && !slices.Contains(p.RequiresPre, text)
	})
}

// atHome returns those of list that are installed or replace something
// installed, if others are in it as well. What is about to be upgraded away
// does not count for a new package.
func (s *solver) atHome(v lit, list []lit) []lit {
	var good []lit
	others := false
	for _, c := range list {
		switch {
		case c < 0:
			return nil
		case c == systemVar:
			return nil
		case s.pkgs[c].Installed:
			if s.pkgs[v].Installed || !s.upgrading(c) {
				good = append(good, c)
			}
		case len(s.replaced[c]) > 0:
			good = append(good, c)
		default:
			others = true
		}
	}
	if !others {
		return nil
	}
	return good
}

// upgrading reports whether a job asks for q's upgrade and there is one.
func (s *solver) upgrading(q lit) bool {
	return slices.ContainsFunc(s.jobs, func(j job) bool {
		return j.Action == Upgrade && slices.Contains(j.candidates, q) && len(s.targets(j, q)) > 0
	})
}
