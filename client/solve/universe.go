package solve

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"stork/repo"
)

// universe fills a pool lazily: breadth first, one Lookup and one Provided
// for all that a round has found to be unknown.
type universe struct {
	*pool
	request  *Request
	provider Provider
	guest    System

	asked   map[Kind]map[string]bool
	pending map[Kind]map[string]bool

	demands map[repo.Capability]bool // asked for by a candidate; true: its names were compared
	unknown map[repo.Capability]bool // not asked of the system yet
	fresh   []repo.Capability        // demands that no lookup has been made for

	expanded int // packages below it have been expanded
	weak     bool
	wide     bool // the names of all that is installed have been looked up

	needs     map[string][]need // by capability name: what installed packages ask for
	refuses   map[string][]need // by capability name: what they conflict with
	displaced map[lit]bool
}

// need is a requirement or conflict of an installed package.
type need struct {
	v           lit
	cap         repo.Capability
	requirement string
}

func newUniverse(request *Request, provider Provider, guest System) (*universe, error) {
	u := &universe{
		pool: newPool(request.Arch), request: request, provider: provider, guest: guest,
		asked: map[Kind]map[string]bool{}, pending: map[Kind]map[string]bool{},
		demands: map[repo.Capability]bool{}, unknown: map[repo.Capability]bool{},
		needs: map[string][]need{}, refuses: map[string][]need{}, displaced: map[lit]bool{},
		weak: !request.NoWeak,
	}
	for _, p := range request.Installed {
		if !p.Installed {
			return nil, fmt.Errorf("cannot solve: %v is given as installed without being so", p)
		}
		v, err := u.add(p)
		if err != nil {
			return nil, err
		}
		if v != 0 {
			u.indexInstalled(v, p)
		}
	}
	u.expanded = len(u.pkgs)
	return u, nil
}

func (u *universe) indexInstalled(v lit, p *Package) {
	note := func(index map[string][]need, text string) {
		r, err := u.parse(text)
		if err != nil {
			return
		}
		mentioned(r, func(c repo.Capability) { index[c.Name] = append(index[c.Name], need{v, c, text}) })
	}
	p.requirements(func(s string) { note(u.needs, s) })
	for _, s := range p.Conflicts {
		note(u.refuses, s)
	}
}

// ask queues a term for the next lookup.
func (u *universe) ask(kind Kind, term string) {
	if u.asked[kind][term] {
		return
	}
	if u.asked[kind] == nil {
		u.asked[kind] = map[string]bool{}
	}
	if u.pending[kind] == nil {
		u.pending[kind] = map[string]bool{}
	}
	u.asked[kind][term] = true
	u.pending[kind][term] = true
}

// askSystem queues a capability for the guest's inventory.
func (u *universe) askSystem(c repo.Capability) {
	if _, known := u.system[c.Name]; !known {
		u.unknown[c] = true
	}
}

// demand queues whatever could satisfy c.
func (u *universe) demand(c repo.Capability) {
	if _, known := u.demands[c]; known {
		return
	}
	u.demands[c] = false
	u.askSystem(c)
	u.fresh = append(u.fresh, c)
}

// close looks up until nothing new appears.
func (u *universe) close(ctx context.Context) error {
	for {
		u.expand()
		if err := u.querySystem(ctx); err != nil {
			return err
		}
		u.queueDemands()
		if len(u.pending) == 0 {
			u.compareNames()
		}
		if len(u.pending) == 0 {
			return nil
		}
		if err := u.lookup(ctx); err != nil {
			return err
		}
	}
}

// expand visits the packages that came with the last lookup.
func (u *universe) expand() {
	for ; u.expanded < len(u.pkgs); u.expanded++ {
		v := lit(u.expanded)
		p := u.pkgs[v]
		p.requirements(func(s string) { u.expandDemand(p, s, false) })
		if u.weak {
			for _, s := range p.Recommends {
				u.expandDemand(p, s, false)
			}
			for _, s := range p.Supplements {
				u.expandMention(s)
			}
		}
		for _, s := range p.Conflicts {
			u.expandMention(s)
			u.expandDemand(p, s, true)
		}
		if len(u.request.Installed) > 0 {
			u.displace(v, p)
		}
	}
}

// expandDemand queues what a requirement asks for, or with negate what lifts
// a conflict, but for what p provides itself.
func (u *universe) expandDemand(p *Package, text string, negate bool) {
	r, err := u.parse(text)
	if err != nil {
		return
	}
	if r.Op != "" {
		mentioned(r, u.askSystem)
	}
	wanted(r, negate, func(c repo.Capability) {
		if _, known := u.demands[c]; !known && !p.provides(c) {
			u.demand(c)
		}
	})
}

// expandMention queues what the guest may have already; candidates need not
// be looked up for it.
func (u *universe) expandMention(text string) {
	if r, err := u.parse(text); err == nil {
		mentioned(r, u.askSystem)
	}
}

// displace notes which installed packages would have to go for p.
func (u *universe) displace(v lit, p *Package) {
	if !p.Multi {
		for _, o := range u.byName[p.Name] {
			if u.pkgs[o].Installed {
				u.queueDisplaced(o)
			}
		}
	}
	for _, c := range p.Obsoletes {
		for _, o := range u.byName[repo.Name(c.Name)] {
			if u.pkgs[o].Installed && p.obsoletes(u.pkgs[o]) {
				u.queueDisplaced(o)
			}
		}
	}
	for _, text := range p.Conflicts {
		r, err := u.parse(text)
		if err != nil {
			continue
		}
		mentioned(r, func(c repo.Capability) {
			for _, o := range u.provides[c.Name] {
				if u.pkgs[o.v].Installed && c.Overlaps(o.cap) {
					u.queueDisplaced(o.v)
				}
			}
		})
	}
	u.visitNames(p, func(c repo.Capability) {
		for _, n := range u.refuses[c.Name] {
			if n.cap.Overlaps(c) {
				u.queueDisplaced(n.v)
			}
		}
	})
}

// visitNames calls visit with everything p provides.
func (u *universe) visitNames(p *Package, visit func(repo.Capability)) {
	visit(p.self())
	for _, c := range p.Provides {
		visit(c)
	}
	for _, path := range p.Paths {
		visit(repo.Capability{Name: path})
	}
}

// queueDisplaced looks for other versions of an installed package that may
// have to go, of the packages that depend on it, and for what else could
// give them what it gives.
func (u *universe) queueDisplaced(v lit) {
	if u.displaced[v] {
		return
	}
	u.displaced[v] = true
	u.ask(ByName, string(u.pkgs[v].Name))
	u.visitDependants(v, func(n need) {
		u.ask(ByName, string(u.pkgs[n.v].Name))
		u.demand(n.cap)
	})
}

// visitDependants calls visit with every need of an installed package that v
// provides for.
func (u *universe) visitDependants(v lit, visit func(need)) {
	u.visitNames(u.pkgs[v], func(c repo.Capability) {
		for _, n := range u.needs[c.Name] {
			if n.v != v && n.cap.Overlaps(c) {
				visit(n)
			}
		}
	})
}

// goes notes that an installed package is to be removed: what the guest has
// itself may take its place.
func (u *universe) goes(v lit) {
	u.visitDependants(v, func(n need) { u.askSystem(n.cap) })
}

// widen looks up other versions of everything installed, and what else could
// give it what it needs.
func (u *universe) widen() {
	u.wide = true
	for _, list := range u.needs {
		for _, n := range list {
			u.demand(n.cap)
		}
	}
	for _, p := range u.pkgs[firstVar:] {
		if p.Installed {
			u.ask(ByName, string(p.Name))
			u.ask(ByObsoletes, string(p.Name))
		}
	}
}

// querySystem asks the guest's inventory for all that is queued.
func (u *universe) querySystem(ctx context.Context) error {
	if len(u.unknown) == 0 {
		return nil
	}
	caps := slices.SortedFunc(maps.Keys(u.unknown), func(a, b repo.Capability) int {
		return compareStrings(a.String(), b.String())
	})
	clear(u.unknown)
	for _, c := range caps {
		u.system[c.Name] = nil
	}
	clear(u.lists)
	if u.guest == nil {
		return nil
	}
	provided, err := u.guest.Provided(ctx, caps)
	if err != nil {
		return fmt.Errorf("cannot learn what the guest has: %w", err)
	}
	for _, c := range provided {
		if _, ok := u.system[c.Name]; ok {
			u.system[c.Name] = append(u.system[c.Name], c)
		}
	}
	return nil
}

// queueDemands looks up every new demand that the guest does not satisfy.
func (u *universe) queueDemands() {
	for _, c := range u.fresh {
		if !u.systemHas(c) {
			u.ask(ByCapability, c.Name)
		}
	}
	u.fresh = u.fresh[:0]
}

// compareNames looks up every version of packages that compete for a demand:
// one that provides it in an old version only is the worse choice.
func (u *universe) compareNames() {
	for c, done := range u.demands {
		if done {
			continue
		}
		u.demands[c] = true
		list := u.whatProvides(c)
		if len(list) < 2 || list[0] == systemVar {
			continue
		}
		first := u.pkgs[list[0]].Name
		if !slices.ContainsFunc(list, func(v lit) bool { return u.pkgs[v].Name != first }) {
			continue
		}
		for _, v := range list {
			u.ask(ByName, string(u.pkgs[v].Name))
		}
	}
}

// lookup makes one round trip for all that is queued.
func (u *universe) lookup(ctx context.Context) error {
	var queries []Query
	for _, kind := range []Kind{ByName, ByGlob, ByCapability, ByObsoletes, ByReverse} {
		if terms := u.pending[kind]; len(terms) > 0 {
			queries = append(queries, Query{Kind: kind, Terms: slices.Sorted(maps.Keys(terms))})
		}
	}
	clear(u.pending)
	if u.provider == nil {
		return nil
	}
	found, err := u.provider.Lookup(ctx, queries)
	if err != nil {
		return fmt.Errorf("cannot look up packages: %w", err)
	}
	// Variables are numbered in an order that does not depend on the answer's.
	slices.SortStableFunc(found, comparePackages)
	for _, p := range found {
		if p.Installed {
			return fmt.Errorf("cannot solve: %v came as a candidate and as installed", p)
		}
		if _, err := u.add(p); err != nil {
			return err
		}
	}
	return nil
}
