package solve

import (
	"slices"

	"stork/repo"
)

// nextWeak follows recommendations and supplements of what is new, after
// everything that must be is decided.
func (s *solver) nextWeak() lit {
	if s.request.NoWeak {
		return 0
	}
	for i := 0; i < len(s.sat.trail); i++ {
		v := s.sat.trail[i]
		if v <= systemVar || s.pkgs[v].Installed {
			continue
		}
		for n, text := range s.pkgs[v].Recommends {
			if s.weakDone[weakKey{v, n}] {
				continue
			}
			if l := s.recommended(v, text); l != 0 {
				s.weakTaken[l] = v
				return l
			}
			s.weakDone[weakKey{v, n}] = true
		}
	}
	return s.supplement()
}

// recommended picks a package for a recommendation that is not met yet.
func (s *solver) recommended(v lit, text string) lit {
	for _, q := range s.replaced[v] {
		if slices.Contains(s.pkgs[q].Recommends, text) {
			return 0 // the user has had the choice before
		}
	}
	c := s.compileOnce(s.weakClauses, text, false)
	for _, one := range c.clauses {
		open := !slices.ContainsFunc(one.lits, func(l lit) bool {
			t := s.sat.truth(l)
			return t == 1 || t == 0 && l < 0
		})
		if !open {
			continue
		}
		var asked repo.Capability
		if r, err := s.parse(text); err == nil {
			asked = r.Capability
		}
		if l := s.choose(one.lits, one.alts, asked); l != 0 {
			return l
		}
	}
	return 0
}

// supplement picks a package that supplements what the transaction brings.
func (s *solver) supplement() lit {
	now := func(v lit) bool { return s.sat.value[v] == 1 }
	var list []lit
	for _, v := range s.reverse {
		if s.sat.value[v] != 0 || s.anyTrue(s.byName[s.pkgs[v].Name]) {
			continue
		}
		for _, text := range s.pkgs[v].Supplements {
			c := s.compileOnce(s.weakClauses, text, false)
			if c.err == nil && holds(c.clauses, now) && !s.holdBefore(c.clauses) {
				list = append(list, v)
				break
			}
		}
	}
	l := s.choose(list, nil, repo.Capability{})
	if l != 0 {
		s.weakTaken[l] = 0
	}
	return l
}

// missing lists the recommendations of new packages that are not followed.
func (s *solver) missing(present func(lit) bool) []Missing {
	var out []Missing
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		if s.request.NoWeak || !present(v) || s.pkgs[v].Installed {
			continue
		}
		for _, text := range s.pkgs[v].Recommends {
			if c := s.compileOnce(s.weakClauses, text, false); c.err != nil || !holds(c.clauses, present) {
				out = append(out, Missing{Package: s.pkgs[v], Requirement: text})
			}
		}
	}
	return out
}
