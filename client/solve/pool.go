package solve

import (
	"fmt"
	"slices"

	"stork/repo"
)

// systemVar stands for all that the guest has besides Stork's packages: a
// package that is always installed.
const systemVar lit = 1

// firstVar is the first variable that is a package.
const firstVar lit = 2

// maxPackages bounds the universe.
const maxPackages = 250_000

// provider is one package and what it provides.
type provider struct {
	v   lit
	cap repo.Capability
}

// pool holds the packages that may take part, as variables.
type pool struct {
	arch     repo.Arch
	pkgs     []*Package // by variable
	byID     map[string]lit
	byName   map[repo.Name][]lit
	provides map[string][]provider
	foreign  map[repo.Name][]*Package // left out for their architecture
	system   map[string][]repo.Capability
	copies   map[lit]*Package // available copies of installed packages
	parsed   map[string]parsed
	lists    map[repo.Capability][]lit // whatProvides, until a package is added
}

type parsed struct {
	requirement repo.Requirement
	err         error
}

func newPool(arch repo.Arch) *pool {
	return &pool{
		arch: arch, pkgs: make([]*Package, firstVar), byID: map[string]lit{}, byName: map[repo.Name][]lit{},
		provides: map[string][]provider{}, foreign: map[repo.Name][]*Package{},
		system: map[string][]repo.Capability{}, copies: map[lit]*Package{},
		parsed: map[string]parsed{}, lists: map[repo.Capability][]lit{},
	}
}

func identity(p *Package) string {
	if p.ID != "" {
		return p.ID
	}
	return p.String() + "@" + string(p.Publisher)
}

// add makes p a variable. It returns 0 for a package that is there already
// or that the guest can not run.
func (p *pool) add(pkg *Package) (lit, error) {
	if pkg.Arch != p.arch && pkg.Arch != repo.NoArch && !pkg.Installed {
		p.addForeign(pkg)
		return 0, nil
	}
	id := identity(pkg)
	if v, ok := p.byID[id]; ok {
		if p.pkgs[v].Installed && !pkg.Installed {
			p.copies[v] = pkg
		}
		return 0, nil
	}
	if len(p.pkgs) >= maxPackages {
		return 0, fmt.Errorf("cannot solve: more than %d candidates", maxPackages)
	}
	v := lit(len(p.pkgs))
	p.pkgs = append(p.pkgs, pkg)
	p.byID[id] = v
	p.byName[pkg.Name] = append(p.byName[pkg.Name], v)
	p.index(v, repo.Capability{Name: string(pkg.Name), Op: repo.Equal, EVR: pkg.EVR})
	for _, c := range pkg.Provides {
		p.index(v, c)
	}
	for _, path := range pkg.Paths {
		p.index(v, repo.Capability{Name: path})
	}
	clear(p.lists)
	return v, nil
}

func (p *pool) addForeign(pkg *Package) {
	same := func(o *Package) bool { return identity(o) == identity(pkg) }
	if !slices.ContainsFunc(p.foreign[pkg.Name], same) {
		p.foreign[pkg.Name] = append(p.foreign[pkg.Name], pkg)
	}
}

func (p *pool) index(v lit, c repo.Capability) {
	p.provides[c.Name] = append(p.provides[c.Name], provider{v, c})
}

// systemHas reports whether the guest itself provides c. Only what was asked
// for is known.
func (p *pool) systemHas(c repo.Capability) bool {
	return slices.ContainsFunc(p.system[c.Name], c.Overlaps)
}

// whatProvides returns the packages that provide c, the system among them,
// each once. The caller must not change the list.
func (p *pool) whatProvides(c repo.Capability) []lit {
	if list, ok := p.lists[c]; ok {
		return list
	}
	var list []lit
	if p.systemHas(c) {
		list = append(list, systemVar)
	}
	for _, candidate := range p.provides[c.Name] {
		if c.Overlaps(candidate.cap) && (len(list) == 0 || list[len(list)-1] != candidate.v) {
			list = append(list, candidate.v)
		}
	}
	p.lists[c] = list
	return list
}

// parse reads a requirement, once for all packages that have it.
func (p *pool) parse(s string) (repo.Requirement, error) {
	if got, ok := p.parsed[s]; ok {
		return got.requirement, got.err
	}
	r, err := repo.ParseRequirement(s)
	p.parsed[s] = parsed{r, err}
	return r, err
}

// self returns what p is by itself, which obsoletes are matched against.
func (p *Package) self() repo.Capability {
	return repo.Capability{Name: string(p.Name), Op: repo.Equal, EVR: p.EVR}
}

// obsoletes reports whether p takes o's place by its obsoletes. Only names
// count, not what o provides, as in rpm.
func (p *Package) obsoletes(o *Package) bool {
	return p.Name != o.Name && slices.ContainsFunc(p.Obsoletes, o.self().Overlaps)
}

// requirements calls visit with every requirement, those of the scriptlets
// included.
func (p *Package) requirements(visit func(string)) {
	for _, r := range p.RequiresPre {
		visit(r)
	}
	for _, r := range p.Requires {
		visit(r)
	}
}
