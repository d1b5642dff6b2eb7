package solve

import (
	"cmp"
	"slices"
	"strings"

	"stork/repo"
)

func compareStrings(a, b string) int { return strings.Compare(a, b) }

// comparePackages orders packages by name, then as betterVersion does, then
// so that no two are equal. It is called often and most names differ, so it
// looks no further than it must.
func comparePackages(a, b *Package) int {
	if a == b {
		return 0
	}
	if c := compareStrings(string(a.Name), string(b.Name)); c != 0 {
		return c
	}
	if c := betterVersion(a, b); c != 0 {
		return c
	}
	if c := compareStrings(string(a.Publisher), string(b.Publisher)); c != 0 {
		return c
	}
	return compareStrings(identity(a), identity(b))
}

// betterVersion is negative if a is to be preferred to b, another build of
// the same package: the policy's order first, then the newest version, then
// the guest's own architecture.
func betterVersion(a, b *Package) int {
	if c := cmp.Compare(a.Priority, b.Priority); c != 0 {
		return c
	}
	if c := b.EVR.Compare(a.EVR); c != 0 {
		return c
	}
	return compareArch(a.Arch, b.Arch)
}

func compareArch(a, b repo.Arch) int {
	switch {
	case a == b:
		return 0
	case b == repo.NoArch:
		return -1
	case a == repo.NoArch:
		return 1
	}
	return compareStrings(string(a), string(b))
}

// rank is what candidates for one requirement are compared by, most
// important first; lower is better.
type rank struct {
	alternative uint8 // in its "or"
	installed   int   // 0: installed, 1: updates something installed, 2: new
	priority    int
	recommended int // 0 if something that comes recommends it
	outdated    int // 1 if there is a newer version of it, for it is on its way out
	suggested   int // 0 if something suggests it, or it enhances something
}

// choose returns the best candidate that is still open, or 0. provides is the
// capability asked for, so that the newest of several versions of it wins;
// its name may be empty.
func (s *solver) choose(candidates []lit, alts []uint8, provides repo.Capability) lit {
	type entry struct {
		v lit
		rank
	}
	var finalists []entry // the best version of each name
	at := map[repo.Name]int{}
	for i, v := range candidates {
		if v <= systemVar || s.sat.value[v] != 0 {
			continue
		}
		e := entry{v, s.rank(v, alts, i)}
		n, ok := at[s.pkgs[v].Name]
		if !ok {
			at[s.pkgs[v].Name] = len(finalists)
			finalists = append(finalists, e)
			continue
		}
		o := finalists[n]
		if c := e.compareVersions(o.rank); c < 0 || c == 0 && comparePackages(s.pkgs[v], s.pkgs[o.v]) < 0 {
			finalists[n] = e
		}
	}
	if len(finalists) == 0 {
		return 0
	}
	return slices.MinFunc(finalists, func(a, b entry) int {
		if c := cmp.Or(a.compareStart(b.rank), a.compareEnd(b.rank)); c != 0 {
			return c
		}
		if c := compareProvided(s.pkgs[a.v], s.pkgs[b.v], provides); c != 0 {
			return c
		}
		return comparePackages(s.pkgs[a.v], s.pkgs[b.v])
	}).v
}

// compareVersions compares what comes before the version, for two versions of
// one package: here it does not count what else they would replace.
func (r rank) compareVersions(o rank) int {
	return cmp.Or(
		cmp.Compare(r.alternative, o.alternative),
		cmp.Compare(min(r.installed, 1), min(o.installed, 1)),
		cmp.Compare(r.priority, o.priority),
	)
}

// compareStart compares what counts most for packages of different names.
func (r rank) compareStart(o rank) int {
	return cmp.Or(
		cmp.Compare(r.alternative, o.alternative),
		cmp.Compare(r.installed, o.installed),
		cmp.Compare(r.priority, o.priority),
	)
}

// compareEnd compares what is left to tell packages of different names apart.
func (r rank) compareEnd(o rank) int {
	return cmp.Or(
		cmp.Compare(r.recommended, o.recommended),
		cmp.Compare(r.outdated, o.outdated),
		cmp.Compare(r.suggested, o.suggested),
	)
}

func (s *solver) rank(v lit, alts []uint8, i int) rank {
	p := s.pkgs[v]
	r := rank{installed: 2, priority: p.Priority, recommended: 1, suggested: 1}
	if alts != nil {
		r.alternative = alts[i]
	}
	switch {
	case p.Installed:
		r.installed = 0
	case len(s.replaced[v]) > 0:
		r.installed = 1
	}
	if s.favoured(s.recommendedBy[v]) {
		r.recommended = 0
	}
	if s.newest(v) != v {
		r.outdated = 1
	}
	if s.favoured(s.suggestedBy[v]) {
		r.suggested = 0
	}
	return r
}

// favoured reports whether a package of the list is to be installed.
func (s *solver) favoured(by []lit) bool {
	return slices.ContainsFunc(by, func(v lit) bool { return s.sat.value[v] == 1 })
}

// newest returns the best version of the package that v is, in its arch.
func (s *solver) newest(v lit) lit {
	name := s.pkgs[v].Name
	if best, ok := s.newestOf[name]; ok && s.pkgs[best].EVR.Compare(s.pkgs[v].EVR) > 0 {
		return best
	}
	return v
}

// compareProvided is negative if a provides the capability in a newer version
// than b.
func compareProvided(a, b *Package, asked repo.Capability) int {
	if asked.Name == "" {
		return 0
	}
	ca, cb := a.provided(asked), b.provided(asked)
	if ca.Op == repo.Any || cb.Op == repo.Any {
		return 0
	}
	return cmp.Or(cb.EVR.Compare(ca.EVR), cmp.Compare(reach(cb.Op), reach(ca.Op)))
}

// provided returns the newest capability by which p provides asked.
func (p *Package) provided(asked repo.Capability) repo.Capability {
	var best repo.Capability
	consider := func(c repo.Capability) {
		if asked.Overlaps(c) && (best.Name == "" || best.Op == repo.Any || c.EVR.Compare(best.EVR) > 0) {
			best = c
		}
	}
	consider(p.self())
	for _, c := range p.Provides {
		consider(c)
	}
	return best
}

// reach orders operators by how new a version at the same boundary goes.
func reach(o repo.Op) int {
	switch o {
	case repo.Less, repo.NotEqual:
		return 0
	case repo.LessEqual, repo.Equal:
		return 1
	case repo.GreaterEqual:
		return 2
	}
	return 3
}
