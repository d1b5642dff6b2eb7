package solve

import (
	"context"
	"path"
	"slices"
	"testing"

	"stork/repo"
)

// world is a provider that has all its packages in memory, and counts what
// it is asked.
type world struct {
	packages []*Package
	lookups  int
	returned int

	index map[Kind]map[string][]*Package
}

func newWorld(packages ...*Package) *world {
	w := &world{packages: packages, index: map[Kind]map[string][]*Package{}}
	for _, kind := range []Kind{ByName, ByCapability, ByObsoletes, ByReverse} {
		w.index[kind] = map[string][]*Package{}
	}
	put := func(kind Kind, term string, p *Package) {
		list := w.index[kind][term]
		if len(list) == 0 || list[len(list)-1] != p {
			w.index[kind][term] = append(list, p)
		}
	}
	for _, p := range packages {
		put(ByName, string(p.Name), p)
		put(ByCapability, string(p.Name), p)
		for _, c := range p.Provides {
			put(ByCapability, c.Name, p)
		}
		for _, file := range p.Paths {
			put(ByCapability, file, p)
		}
		for _, c := range p.Obsoletes {
			put(ByObsoletes, c.Name, p)
		}
		for _, text := range slices.Concat(p.Supplements, p.Enhances) {
			if r, err := repo.ParseRequirement(text); err == nil {
				for _, name := range r.Names() {
					put(ByReverse, name, p)
				}
			}
		}
	}
	return w
}

func (w *world) Lookup(_ context.Context, queries []Query) ([]*Package, error) {
	w.lookups++
	var out []*Package
	for _, q := range queries {
		if !slices.IsSorted(q.Terms) || len(q.Terms) == 0 {
			panic("terms must be there and sorted")
		}
		for _, term := range q.Terms {
			if q.Kind == ByGlob {
				for _, p := range w.packages {
					if ok, _ := path.Match(term, string(p.Name)); ok {
						out = append(out, p)
					}
				}
			}
			out = append(out, w.index[q.Kind][term]...)
		}
	}
	w.returned += len(out)
	return out, nil
}

// guest is a system with fixed capabilities.
type guest []string

func (g guest) Provided(_ context.Context, caps []repo.Capability) ([]repo.Capability, error) {
	var out []repo.Capability
	for _, text := range g {
		c, err := repo.ParseCapability(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(caps, func(o repo.Capability) bool { return o.Name == c.Name }) {
			out = append(out, c)
		}
	}
	return out, nil
}

// pkg makes a package from "name-version-release.arch" and lines such as
// "requires: foo >= 1".
func pkg(t testing.TB, nevra string, lines ...string) *Package {
	t.Helper()
	p := &Package{Reason: User}
	if err := parseNEVRA(p, nevra); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if err := addLine(p, line); err != nil {
			t.Fatalf("%s: %v", nevra, err)
		}
	}
	return p
}

func installed(list ...*Package) []*Package {
	var out []*Package
	for _, p := range list {
		q := *p
		q.Installed = true
		out = append(out, &q)
	}
	return out
}

// changes lists what a transaction does, sorted, in the words of libsolv's
// test cases but without repositories.
func changes(t *Transaction) []string {
	var out []string
	for _, item := range t.Install {
		out = append(out, "install "+item.Package.String())
	}
	for _, r := range t.Upgrade {
		for _, old := range r.Old {
			switch {
			case old.Name == r.New.Name:
				out = append(out, "upgrade "+old.String()+" "+r.New.String())
			case r.New.Multi: // libsolv does not pair these
				out = append(out, "erase "+old.String())
			default:
				out = append(out, "erase "+old.String()+" "+r.New.String())
			}
		}
		if !slices.ContainsFunc(r.Old, func(o *Package) bool { return o.Name == r.New.Name }) {
			out = append(out, "install "+r.New.String())
		}
	}
	for _, item := range t.Remove {
		out = append(out, "erase "+item.Package.String())
	}
	for _, p := range t.Reinstall {
		out = append(out, "reinstall "+p.String())
	}
	slices.Sort(out)
	return out
}
