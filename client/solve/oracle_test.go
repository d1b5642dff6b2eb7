package solve

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"stork/repo"
)

// universeOf draws up to eleven packages of five names with dependencies
// among them, a few of them installed.
func drawPackages(t *rapid.T) (available, present []*Package) {
	names := []string{"a", "b", "c", "d", "e"}
	caps := []string{"a", "b", "c", "d", "e", "p", "q"}
	draw := func(label string, from []string) string { return rapid.SampledFrom(from).Draw(t, label) }
	capability := func() string {
		c := draw("cap", caps)
		if op := draw("op", []string{"", "", "", "<", ">=", "="}); op != "" {
			c += " " + op + " " + draw("version", []string{"1", "2", "3"})
		}
		return c
	}
	requirement := func() string {
		form := draw("form", []string{"%s", "%s", "%s", "%s", "(%s or %s)", "(%s and %s)", "(%s if %s)", "(%s unless %s)", "(%s with %s)", "(%s without %s)", "(%s if %s else %s)", "(%s or (%s and %s))"})
		args := []any{capability(), capability(), capability()}
		n := 0
		for i := range form {
			if form[i] == '%' {
				n++
			}
		}
		return fmt.Sprintf(form, args[:n]...)
	}
	seen := map[string]bool{}
	for range rapid.IntRange(1, 11).Draw(t, "count") {
		p := &Package{Reason: User, Arch: repo.NoArch, Name: repo.Name(draw("name", names)), EVR: repo.EVR{Version: draw("version", []string{"1", "2", "3"}), Release: "1"}}
		if seen[p.String()] {
			continue
		}
		seen[p.String()] = true
		for range rapid.IntRange(0, 2).Draw(t, "requires") {
			p.Requires = append(p.Requires, requirement())
		}
		if rapid.IntRange(0, 2).Draw(t, "provide") == 0 {
			p.Provides = append(p.Provides, repo.Capability{Name: draw("provides", []string{"p", "q"})})
		}
		if rapid.IntRange(0, 4).Draw(t, "conflict") == 0 {
			p.Conflicts = append(p.Conflicts, capability())
		}
		if rapid.IntRange(0, 6).Draw(t, "obsolete") == 0 {
			p.Obsoletes = append(p.Obsoletes, repo.Capability{Name: draw("obsoletes", names)})
		}
		sameName := func(o *Package) bool { return o.Name == p.Name }
		if rapid.IntRange(0, 3).Draw(t, "installed") == 0 && !slices.ContainsFunc(present, sameName) {
			p.Installed = true
			present = append(present, p)
		} else {
			available = append(available, p)
		}
	}
	return available, present
}

// oracle decides by trying every set of packages, and by the meaning of
// dependencies as rpm's documentation has it, without any of the solver's
// code but capability matching.
type oracle struct {
	all     []*Package
	request Request
}

func (o *oracle) provides(p *Package, c repo.Capability) bool {
	if c.Overlaps(repo.Capability{Name: string(p.Name), Op: repo.Equal, EVR: p.EVR}) {
		return true
	}
	return slices.ContainsFunc(p.Provides, c.Overlaps)
}

func (o *oracle) one(p *Package, r repo.Requirement) bool {
	switch r.Op {
	case repo.With:
		return !slices.ContainsFunc(r.Operands, func(x repo.Requirement) bool { return !o.one(p, x) })
	case repo.Without:
		return o.one(p, r.Operands[0]) && !o.one(p, r.Operands[1])
	}
	return o.provides(p, r.Capability)
}

func (o *oracle) holds(set []*Package, r repo.Requirement) bool {
	sub := func(i int) bool { return o.holds(set, r.Operands[i]) }
	switch r.Op {
	case repo.And:
		return sub(0) && sub(1)
	case repo.Or:
		return sub(0) || sub(1)
	case repo.If:
		if sub(1) {
			return sub(0)
		}
		return len(r.Operands) < 3 || sub(2)
	case repo.Unless:
		return sub(0) && !sub(1)
	}
	return slices.ContainsFunc(set, func(p *Package) bool { return o.one(p, r) })
}

func (o *oracle) obsoletes(p, q *Package) bool {
	return p.Name != q.Name && slices.ContainsFunc(p.Obsoletes, func(c repo.Capability) bool { return c.Name == string(q.Name) })
}

// valid says why a set is not a solution, or nothing.
func (o *oracle) valid(t *rapid.T, set []*Package) string {
	for _, p := range set {
		for _, text := range p.Requires {
			r, err := repo.ParseRequirement(text)
			if err != nil {
				t.Fatal(err)
			}
			broken := p.Installed && !o.holds(o.request.Installed, r)
			if !broken && !o.holds(set, r) {
				return fmt.Sprintf("%v lacks %s", p, text)
			}
		}
		for _, q := range set {
			if why := o.apart(p, q); why != "" {
				return why
			}
		}
		for _, q := range o.request.Installed {
			if !p.Installed && p.Name == q.Name && p.EVR.Compare(q.EVR) < 0 && !o.downgradable(p, q) {
				return fmt.Sprintf("%v is older than %v", p, q)
			}
		}
	}
	return o.jobsDone(set)
}

func (o *oracle) apart(p, q *Package) string {
	if p == q || p.Installed && q.Installed {
		return ""
	}
	if p.Name == q.Name || o.obsoletes(p, q) {
		return fmt.Sprintf("%v and %v", p, q)
	}
	for _, text := range p.Conflicts {
		if c, err := repo.ParseCapability(text); err != nil || o.provides(q, c) {
			return fmt.Sprintf("%v conflicts with %v", p, q)
		}
	}
	return ""
}

func (o *oracle) downgradable(p, q *Package) bool {
	return slices.ContainsFunc(o.request.Jobs, func(j Job) bool {
		return j.Action == Install && j.Spec.Op != repo.Any && j.Spec.Matches(p) || j.Action == Remove && j.Spec.Matches(q)
	})
}

func (o *oracle) jobsDone(set []*Package) string {
	removed := func(q *Package) bool {
		return slices.ContainsFunc(o.request.Jobs, func(j Job) bool { return j.Action == Remove && j.Spec.Matches(q) })
	}
	for _, j := range o.request.Jobs {
		here := slices.ContainsFunc(set, j.Spec.Matches)
		if here != (j.Action == Install) {
			return "job " + j.Spec.Text
		}
	}
	for _, q := range o.request.Installed {
		successor := func(p *Package) bool { return p == q || !p.Installed && (p.Name == q.Name || o.obsoletes(p, q)) }
		if !o.request.AllowErasing && !removed(q) && !slices.ContainsFunc(set, successor) {
			return q.String() + " went"
		}
	}
	return ""
}

// solutions calls visit with every valid set.
func (o *oracle) solutions(t *rapid.T, visit func([]*Package)) {
	for bits := range 1 << len(o.all) {
		var set []*Package
		for i, p := range o.all {
			if bits>>i&1 == 1 {
				set = append(set, p)
			}
		}
		if o.valid(t, set) == "" {
			visit(set)
		}
	}
}

// after returns what is installed after a transaction.
func after(request Request, t *Transaction) []*Package {
	set := slices.Clone(request.Installed)
	gone := func(p *Package) { set = slices.DeleteFunc(set, func(o *Package) bool { return o == p }) }
	for _, s := range t.Steps {
		switch s.Action {
		case Remove:
			gone(s.Package)
		default:
			for _, old := range s.Old {
				gone(old)
			}
			set = append(set, s.Package)
		}
	}
	return set
}

func drawRequest(t *rapid.T, present []*Package) Request {
	job := func(action Action, text string) Job {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		return Job{Action: action, Spec: spec}
	}
	request := Request{Arch: "x86_64", Installed: present, AllowErasing: rapid.Bool().Draw(t, "erasing"), NoWeak: true}
	for range rapid.IntRange(1, 2).Draw(t, "jobs") {
		text := rapid.SampledFrom([]string{"a", "b", "c", "a=1", "b>=2", "c<3"}).Draw(t, "spec")
		request.Jobs = append(request.Jobs, job(Install, text))
	}
	if len(present) > 0 && rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
		request.Jobs = append(request.Jobs, job(Remove, string(present[0].Name)))
	}
	return request
}

// TestOracle holds the solver to the truth in small universes: it finds a
// transaction exactly if there is one, what it finds is valid, contains
// nothing that could be left out, and has the best version of what was asked
// for that any solution has.
func TestOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		available, present := drawPackages(t)
		request := drawRequest(t, present)
		o := &oracle{all: slices.Concat(available, present), request: request}
		got, err := Solve(context.Background(), request, newWorld(available...), nil)
		if _, unsolvable := IsUnsolvable(err); err != nil && !unsolvable {
			t.Fatal(err)
		}
		if err != nil {
			o.solutions(t, func(set []*Package) { t.Fatalf("%v\nbut %v is a solution", err, set) })
			return
		}
		set := after(request, got)
		if why := o.valid(t, set); why != "" {
			t.Fatalf("%v is no solution: %s", set, why)
		}
		for _, item := range got.Install {
			less := slices.DeleteFunc(slices.Clone(set), func(p *Package) bool { return p == item.Package })
			if o.valid(t, less) == "" {
				t.Fatalf("%v: nothing needs %v", set, item.Package)
			}
		}
		if len(present) == 0 {
			o.checkBest(t, request.Jobs[0], set)
		}
	})
}

func (o *oracle) checkBest(t *rapid.T, j Job, set []*Package) {
	version := func(set []*Package) (best *Package) {
		for _, p := range set {
			if j.Spec.Matches(p) && string(p.Name) == string(j.Spec.Name) {
				best = p
			}
		}
		return best
	}
	have := version(set)
	o.solutions(t, func(other []*Package) {
		if p := version(other); p != nil && have != nil && p.EVR.Compare(have.EVR) > 0 {
			t.Fatalf("%v has %v, but %v has %v", set, have, other, p)
		}
	})
}
