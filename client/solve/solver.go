package solve

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"stork/repo"
)

// solver holds one attempt: the rules over a closed universe, and where the
// search is.
type solver struct {
	*universe
	sat  *sat
	jobs []job

	installed     []lit
	replaced      map[lit][]lit // by available package: the installed ones it takes the place of
	successors    map[lit][]lit // by installed package: what may take its place, best first
	recommendedBy map[lit][]lit
	suggestedBy   map[lit][]lit
	newestOf      map[repo.Name]lit

	needRules map[lit][]int32 // by package: needs that its presence may make urgent
	weakOf    map[lit][]string
	reverse   []lit // what supplements something

	scanned     int // how much of the trail was searched for open needs
	weakDone    map[weakKey]bool
	weakTaken   map[lit]lit // by package: which one recommended it
	weakClauses map[string]compiled
}

type weakKey struct {
	v lit
	n int
}

// job is a job of the request with the packages it is about.
type job struct {
	Job
	number     int
	candidates []lit // Install: one of them; Upgrade: installed; Remove: all of them
	satisfied  bool  // by what the guest has itself
}

func newSolver(u *universe, jobs []job) *solver {
	s := &solver{
		universe: u, jobs: jobs, sat: newSAT(len(u.pkgs)),
		replaced: map[lit][]lit{}, successors: map[lit][]lit{},
		recommendedBy: map[lit][]lit{}, suggestedBy: map[lit][]lit{}, newestOf: map[repo.Name]lit{},
		needRules: map[lit][]int32{}, weakDone: map[weakKey]bool{}, weakTaken: map[lit]lit{}, weakClauses: map[string]compiled{},
	}
	s.sat.onUndo = func() {
		s.scanned = 0
		clear(s.weakDone)
		maps.DeleteFunc(s.weakTaken, func(v, _ lit) bool { return s.sat.value[v] != 1 })
	}
	for v := firstVar; int(v) < len(u.pkgs); v++ {
		s.notePackage(v)
	}
	s.noteSuccessors()
	return s
}

func (s *solver) notePackage(v lit) {
	p := s.pkgs[v]
	if p.Installed {
		s.installed = append(s.installed, v)
	}
	if best, ok := s.newestOf[p.Name]; !ok || p.EVR.Compare(s.pkgs[best].EVR) > 0 {
		s.newestOf[p.Name] = v
	}
	if len(p.Supplements) > 0 && !p.Installed {
		s.reverse = append(s.reverse, v)
	}
	note := func(index map[lit][]lit, list []string, reversed bool) {
		for _, text := range list {
			r, err := s.parse(text)
			if err != nil {
				continue
			}
			wanted(r, false, func(c repo.Capability) {
				for _, o := range s.whatProvides(c) {
					if reversed {
						index[v] = append(index[v], o)
					} else {
						index[o] = append(index[o], v)
					}
				}
			})
		}
	}
	note(s.recommendedBy, p.Recommends, false)
	note(s.suggestedBy, p.Suggests, false)
	note(s.suggestedBy, p.Enhances, true)
	note(s.recommendedBy, p.Supplements, true)
}

// noteSuccessors finds what may take the place of each installed package.
func (s *solver) noteSuccessors() {
	for _, q := range s.installed {
		old := s.pkgs[q]
		for _, v := range s.byName[old.Name] {
			if p := s.pkgs[v]; !p.Installed && (!p.Multi || !old.Multi) {
				s.replaced[v] = append(s.replaced[v], q)
				if s.forbidden(v, q) == "" {
					s.successors[q] = append(s.successors[q], v)
				}
			}
		}
	}
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		p := s.pkgs[v]
		for _, c := range p.Obsoletes {
			for _, q := range s.byName[repo.Name(c.Name)] {
				if !s.pkgs[q].Installed || p.Installed || !p.obsoletes(s.pkgs[q]) || slices.Contains(s.replaced[v], q) {
					continue
				}
				s.replaced[v] = append(s.replaced[v], q)
				if s.forbidden(v, q) == "" {
					s.successors[q] = append(s.successors[q], v)
				}
			}
		}
	}
	for q, list := range s.successors {
		slices.SortFunc(list, func(a, b lit) int { return s.compareSuccessors(q, a, b) })
	}
}

// compareSuccessors puts what obsoletes a package before its newer versions,
// as the distributor asks for with an obsoletes.
func (s *solver) compareSuccessors(q, a, b lit) int {
	same := func(v lit) int {
		if s.pkgs[v].Name == s.pkgs[q].Name {
			return 1
		}
		return 0
	}
	pa, pb := s.pkgs[a], s.pkgs[b]
	if pa.Name == pb.Name {
		return comparePackages(pa, pb)
	}
	return cmp.Or(cmp.Compare(same(a), same(b)), cmp.Compare(pa.Priority, pb.Priority), comparePackages(pa, pb))
}

// forbidden says why v must not take q's place unless the user asks for it,
// or is empty.
func (s *solver) forbidden(v, q lit) LineKind {
	p, old := s.pkgs[v], s.pkgs[q]
	if !s.request.AllowPublishers && p.Publisher != old.Publisher {
		return OtherPublisher
	}
	if p.Name != old.Name || s.request.AllowDowngrade || p.EVR.Compare(old.EVR) >= 0 {
		return ""
	}
	for _, j := range s.jobs {
		if j.Action == Install && j.Spec.Op != repo.Any && slices.Contains(j.candidates, v) {
			return ""
		}
	}
	return Older
}

// solve searches. It returns the causes of failure if there is no solution.
func (s *solver) solve(ctx context.Context) (core []int32, err error) {
	if err := s.build(); err != nil {
		return nil, err
	}
	return s.sat.run(ctx, s.next)
}

// next is libsolv's order of decisions: what was asked for, then what is
// installed, then what is needed, then what is only recommended.
func (s *solver) next() lit {
	for _, step := range []func() lit{s.nextJob, s.nextUpgrade, s.nextKept, s.nextNeed, s.nextWeak} {
		if l := step(); l != 0 {
			return l
		}
	}
	return 0
}

// nextJob decides which package an install job gets.
func (s *solver) nextJob() lit {
	for _, j := range s.jobs {
		if j.Action != Install || j.satisfied || s.anyTrue(j.candidates) {
			continue
		}
		if v := s.choose(j.candidates, nil, j.Spec.capability()); v != 0 {
			return v
		}
	}
	return 0
}

func (s *solver) anyTrue(list []lit) bool {
	return slices.ContainsFunc(list, func(v lit) bool { return v == systemVar || s.sat.truth(v) == 1 })
}

// nextUpgrade takes the best successor of what is to be upgraded.
func (s *solver) nextUpgrade() lit {
	for _, j := range s.jobs {
		if j.Action != Upgrade {
			continue
		}
		for _, q := range j.candidates {
			if l := s.upgrade(j, q); l != 0 {
				return l
			}
		}
	}
	return 0
}

func (s *solver) upgrade(j job, q lit) lit {
	list := s.targets(j, q)
	if !s.anyTrue(list) && s.sat.value[q] != 1 || s.pkgs[q].Multi && !s.anyTrue(list) {
		for _, v := range list {
			if s.sat.value[v] == 0 {
				return v
			}
		}
	}
	if s.request.AllObsoleters {
		return s.otherObsoleters(q, list)
	}
	return 0
}

// targets returns what an upgrade job may install in q's place, best first.
// Of a package that may be installed in several versions that is what is
// newer than all of them.
func (s *solver) targets(j job, q lit) []lit {
	list := s.successors[q]
	if s.pkgs[q].Multi {
		list = s.newerThanInstalled(q)
	}
	if j.Spec.Kind == NameSpec && j.Spec.Op != repo.Any {
		list = slices.DeleteFunc(slices.Clone(list), func(v lit) bool { return !j.Spec.Matches(s.pkgs[v]) })
	}
	// A successor of the same version is no upgrade.
	return slices.DeleteFunc(slices.Clone(list), func(v lit) bool {
		return s.pkgs[v].Name == s.pkgs[q].Name && s.pkgs[v].EVR == s.pkgs[q].EVR && s.pkgs[v].Publisher == s.pkgs[q].Publisher
	})
}

func (s *solver) newerThanInstalled(q lit) []lit {
	var list []lit
	versions := s.byName[s.pkgs[q].Name]
	for _, v := range versions {
		older := func(o lit) bool {
			return s.pkgs[o].Installed && s.pkgs[o].EVR.Compare(s.pkgs[v].EVR) >= 0
		}
		if !s.pkgs[v].Installed && s.forbidden(v, q) == "" && !slices.ContainsFunc(versions, older) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b lit) int { return comparePackages(s.pkgs[a], s.pkgs[b]) })
	return list
}

// otherObsoleters adds to the package that obsoletes q those that do so in
// the same words: the parts of a split package.
func (s *solver) otherObsoleters(q lit, list []lit) lit {
	words := func(v lit) string {
		for _, c := range s.pkgs[v].Obsoletes {
			if s.pkgs[q].self().Overlaps(c) {
				return c.String()
			}
		}
		return ""
	}
	chosen := slices.IndexFunc(list, func(v lit) bool { return s.sat.value[v] == 1 && s.pkgs[v].obsoletes(s.pkgs[q]) })
	if chosen < 0 {
		return 0
	}
	for _, v := range list {
		if s.sat.value[v] == 0 && words(v) == words(list[chosen]) {
			return v
		}
	}
	return 0
}

// nextKept keeps what is installed, or gives what must go a successor.
func (s *solver) nextKept() lit {
	for _, q := range s.installed {
		switch s.sat.value[q] {
		case 0:
			return q
		case -1:
			if s.removed(q) || s.anyTrue(s.successors[q]) {
				continue
			}
			for _, v := range s.successors[q] {
				if s.sat.value[v] == 0 {
					return v
				}
			}
		}
	}
	return 0
}

// removed reports whether a job removes q.
func (s *solver) removed(q lit) bool {
	return slices.ContainsFunc(s.jobs, func(j job) bool {
		return j.Action == Remove && slices.Contains(j.candidates, q)
	})
}

// nextNeed decides an open requirement of what is to be installed.
func (s *solver) nextNeed() lit {
	for ; s.scanned < len(s.sat.trail); s.scanned++ {
		l := s.sat.trail[s.scanned]
		if l < 0 {
			continue
		}
		for _, n := range s.needRules[l] {
			if v := s.need(&s.sat.rules[n]); v != 0 {
				return v
			}
		}
	}
	return 0
}

// need decides a rule if all that could make it hold are packages that are
// still open.
func (s *solver) need(r *rule) lit {
	if s.sat.truth(r.p) != -1 {
		return 0
	}
	for _, l := range r.d {
		if t := s.sat.truth(l); t == 1 || t == 0 && l < 0 {
			return 0
		}
	}
	var asked repo.Capability
	if parsed, err := s.parse(r.req); err == nil && parsed.Op == "" {
		asked = parsed.Capability
	}
	return s.choose(r.d, r.alts, asked)
}
