package solve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"stork/repo"
)

// maxProblems bounds how many independent problems are reported, and
// maxNamed how many packages a line names.
const (
	maxProblems = 10
	maxNamed    = 5
)

// unmatched says what is wrong with a job that is about no package at all.
func (u *universe) unmatched(j *job) (Line, bool) {
	if len(j.candidates) > 0 || j.satisfied || j.Spec.Kind == "" {
		return Line{}, false
	}
	text := strings.TrimSpace(j.Spec.Text)
	if text == "" {
		text = j.Spec.capability().String()
	}
	line := Line{Kind: NotInstalled, Requirement: text, Text: text + " is not installed"}
	if j.Action != Install {
		return line, true
	}
	line.Kind, line.Text = NoMatch, "no package is called "+text+" or provides it"
	if j.Spec.Kind == PathSpec || j.Spec.Kind == CapabilitySpec && j.Spec.Op == repo.Any && strings.Contains(text, "(") {
		line.Text = "nothing provides " + text
	}
	name := j.Spec.Name
	switch {
	case len(u.byName[name]) > 0 && name != "":
		line.Kind = WrongVersion
		line.Others = u.names(u.byName[name])
		line.Text = "no version of " + string(name) + " is " + text + ": there is " + enumerate(line.Others)
	case len(u.foreign[name]) > 0:
		line.Kind = WrongArch
		for _, p := range u.foreign[name] {
			line.Others = append(line.Others, p.String())
		}
		line.Text = fmt.Sprintf("%s is not built for %s: there is %s", name, u.arch, enumerate(line.Others))
	}
	return line, true
}

// explain turns a core into problems, and looks for others that do not
// depend on the same jobs.
func (s *solver) explain(ctx context.Context, core []int32) error {
	u := &Unsolvable{}
	kept := false
	for len(core) > 0 && len(u.Problems) < maxProblems {
		core = s.minimize(ctx, core)
		kept = kept || slices.ContainsFunc(core, func(c int32) bool { return c >= 0 && s.sat.rules[c].kind == Kept })
		u.Problems = append(u.Problems, s.problem(core))
		if !s.dropJobs(core) {
			break
		}
		var err error
		if core, err = s.sat.run(ctx, s.next); err != nil {
			return err
		}
	}
	if kept && !s.request.AllowErasing {
		u.WouldRemove = s.wouldRemove(ctx)
	}
	return u
}

// dropJobs gives up the jobs that a core is about.
func (s *solver) dropJobs(core []int32) bool {
	dropped := false
	for _, c := range core {
		if c < 0 || s.sat.rules[c].job == 0 {
			continue
		}
		number := s.sat.rules[c].job
		for i := range s.sat.rules {
			if s.sat.rules[i].job == number && !s.sat.rules[i].disabled {
				s.sat.disable(int32(i))
				dropped = true
			}
		}
		s.jobs = slices.DeleteFunc(slices.Clone(s.jobs), func(j job) bool { return j.number == number })
	}
	return dropped
}

// wouldRemove returns what would go if installed packages were allowed to.
func (s *solver) wouldRemove(ctx context.Context) []*Package {
	request := *s.request
	request.AllowErasing = true
	u, err := newUniverse(&request, s.provider, s.guest)
	if err != nil {
		return nil
	}
	jobs, err := u.openJobs(ctx)
	if err != nil {
		return nil
	}
	other, core, err := attempt(ctx, u, jobs)
	if err != nil || core != nil {
		return nil
	}
	a, err := other.take()
	if err != nil {
		return nil
	}
	var out []*Package
	for _, item := range a.transaction().Remove {
		asked := slices.ContainsFunc(jobs, func(j job) bool { return j.Action == Remove && j.Spec.Matches(item.Package) })
		if !asked {
			out = append(out, item.Package)
		}
	}
	return out
}

// minimize leaves out of a core what is not needed for the contradiction.
func (s *solver) minimize(ctx context.Context, core []int32) []int32 {
	const most = 200 // beyond that the words would help nobody
	if len(core) > most {
		return core
	}
	for i := 0; i < len(core); {
		less := slices.Delete(slices.Clone(core), i, i+1)
		if smaller, err := s.contradiction(ctx, less); err == nil && smaller != nil {
			core = slices.DeleteFunc(less, func(c int32) bool { return !slices.Contains(smaller, c) })
			continue
		}
		i++
	}
	return core
}

// contradiction returns which of the causes alone exclude each other, nil if
// none do.
func (s *solver) contradiction(ctx context.Context, causes []int32) ([]int32, error) {
	t := newSAT(len(s.pkgs))
	var vars []lit
	for _, c := range causes {
		var literals []lit
		s.sat.literals(c, func(l lit) {
			literals = append(literals, l)
			if !t.seen[l.v()] {
				t.seen[l.v()] = true
				vars = append(vars, l.v())
			}
		})
		t.add(rule{p: literals[0], d: literals[1:]})
	}
	clear(t.seen)
	core, err := t.run(ctx, func() lit {
		for _, v := range vars {
			if t.value[v] == 0 {
				return -v
			}
		}
		return 0
	})
	if err != nil || core == nil {
		return nil, err
	}
	for i, n := range core {
		core[i] = causes[n]
	}
	return core, nil
}

// problem puts a core into words: first what was asked for, then why not.
func (s *solver) problem(core []int32) Problem {
	var demands, facts []Line
	for _, c := range core {
		line := s.line(c)
		switch {
		case line.Text == "":
		case line.Kind == Wanted || line.Kind == Unwanted || line.Kind == NotBest:
			demands = append(demands, line)
		default:
			facts = append(facts, line)
		}
	}
	p := Problem{}
	for _, line := range append(demands, facts...) {
		same := func(o Line) bool { return o.Text == line.Text }
		if !slices.ContainsFunc(p.Lines, same) {
			p.Lines = append(p.Lines, line)
		}
	}
	return p
}

// line puts one cause into words.
func (s *solver) line(cause int32) Line {
	if cause <= pairBase {
		p := s.sat.pairs[pairBase-cause]
		return s.sameName(p.a, p.b)
	}
	r := &s.sat.rules[cause]
	line := Line{Kind: r.kind, Requirement: r.req}
	var pkg string
	if r.pkg > systemVar {
		pkg = s.pkgs[r.pkg].String()
		line.Package = pkg
	}
	switch r.kind {
	case Wanted:
		line.Others = s.names(append([]lit{r.p}, r.d...))
		line.Text = "cannot install " + r.req
	case NotBest:
		line.Others = s.names(append([]lit{r.p}, r.d...))
		line.Text = "cannot install the best candidate for " + r.req + ", which is " + enumerate(line.Others)
	case Unwanted:
		line.Text = "cannot remove " + pkg
	case Kept:
		line.Text = pkg + " is installed and must not go"
		if others := s.names(r.d); len(others) > 0 {
			line.Others = others
			line.Text += " but for " + enumerate(others)
		}
	case SameName:
		return s.sameName(r.pkg, r.d[0].v())
	default:
		s.describe(&line, r, pkg)
	}
	return line
}

// describe puts a package's own demand into words.
func (s *solver) describe(line *Line, r *rule, pkg string) {
	switch r.kind {
	case Needs:
		s.describeNeed(line, r, pkg)
	case ConflictsWith:
		var others []lit
		for _, l := range r.d {
			others = append(others, l.v())
		}
		line.Others = s.names(others)
		line.Text = pkg + " conflicts with " + r.req + " provided by " + enumerate(line.Others)
	case SystemConflict:
		line.Text = pkg + " conflicts with " + r.req + ", which the guest has" + s.systemVersions(r.req)
	case ObsoletedBy:
		line.Others = s.names([]lit{r.d[0].v()})
		line.Text = pkg + " obsoletes " + r.req + " provided by " + enumerate(line.Others)
	case OtherPublisher:
		line.Others = []string{r.req}
		line.Text = fmt.Sprintf("%s comes from %s, but the installed %s from somebody else", pkg, s.pkgs[r.pkg].Publisher, r.req)
	case Older:
		line.Others = []string{r.req}
		line.Text = pkg + " is older than the installed " + r.req
	case Unreadable:
		line.Text = fmt.Sprintf("%s has a dependency that can not be understood: %s", pkg, r.req)
	}
}

func (s *solver) describeNeed(line *Line, r *rule, pkg string) {
	var others []lit
	for _, l := range r.d {
		if l > 0 {
			others = append(others, l)
		}
	}
	if len(others) > 0 {
		line.Others = s.names(others)
		line.Text = pkg + " requires " + r.req + ", which means " + enumerate(line.Others)
		return
	}
	line.Kind = NothingProvides
	line.Text = "nothing provides " + r.req + " needed by " + pkg
	parsed, err := s.parse(r.req)
	if err != nil || parsed.Op != "" || parsed.Capability.Op == repo.Any {
		return
	}
	name := parsed.Capability.Name
	for _, o := range s.provides[name] {
		if text := s.pkgs[o.v].String(); !slices.Contains(line.Others, text) {
			line.Others = append(line.Others, text)
		}
	}
	if len(line.Others) > 0 || len(s.system[name]) > 0 {
		line.Kind = WrongVersion
		line.Text = pkg + " requires " + r.req + ", but only " + enumerate(append(line.Others, s.systemHolds(name)...)) + " is there"
	}
}

// systemHolds says in which versions the guest itself has something.
func (s *solver) systemHolds(name string) []string {
	var out []string
	for _, c := range s.system[name] {
		out = append(out, "the guest's own "+c.String())
	}
	return out
}

func (s *solver) systemVersions(text string) string {
	r, err := s.parse(text)
	if err != nil || r.Op != "" || len(s.system[r.Capability.Name]) == 0 {
		return ""
	}
	return " as " + s.system[r.Capability.Name][0].String()
}

func (s *solver) sameName(a, b lit) Line {
	if comparePackages(s.pkgs[a], s.pkgs[b]) < 0 {
		a, b = b, a // the older first
	}
	pa, pb := s.pkgs[a].String(), s.pkgs[b].String()
	return Line{Kind: SameName, Package: pa, Others: []string{pb}, Text: "cannot install both " + pa + " and " + pb}
}

func (u *universe) names(list []lit) []string {
	var out []string
	for _, v := range list {
		if v > systemVar {
			out = append(out, u.pkgs[v].String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// enumerate joins names for people.
func enumerate(names []string) string {
	if len(names) > maxNamed {
		return fmt.Sprintf("%s or %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// IsUnsolvable returns the problems if that is what err is about.
func IsUnsolvable(err error) (*Unsolvable, bool) {
	var u *Unsolvable
	ok := errors.As(err, &u)
	return u, ok
}
