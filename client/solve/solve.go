package solve

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stork/repo"
)

// Solve finds the transaction that does the request's jobs. The error is an
// [*Unsolvable] if there is none, else that of provider or system. A nil
// provider or system has nothing. A request that only removes asks the
// provider nothing, so it works where no repository can be reached.
func Solve(ctx context.Context, request Request, provider Provider, system System) (*Transaction, error) {
	if err := checkRequest(request); err != nil {
		return nil, err
	}
	u, err := newUniverse(&request, provider, system)
	if err != nil {
		return nil, err
	}
	jobs, err := u.openJobs(ctx)
	if err != nil {
		return nil, err
	}
	s, core, err := attempt(ctx, u, jobs)
	if err != nil {
		return nil, err
	}
	if core == nil {
		a, err := s.take()
		if err != nil {
			return nil, err
		}
		return a.transaction(), nil
	}
	return nil, s.explain(ctx, core)
}

func checkRequest(request Request) error {
	for _, j := range request.Jobs {
		switch {
		case !slices.Contains([]Action{Install, Remove, Upgrade, Reinstall}, j.Action):
			return fmt.Errorf("cannot solve: unknown action %q", j.Action)
		case j.Spec.Kind == "" && j.Action != Upgrade:
			return errors.New("cannot solve: a job names no package")
		}
	}
	return nil
}

// attempt closes the universe and searches, once more for what supplements
// the answer, and once more with other versions of all that is installed if
// there is none.
func attempt(ctx context.Context, u *universe, jobs []job) (*solver, []int32, error) {
	var s *solver
	var core []int32
	for known := 0; ; {
		if err := u.close(ctx); err != nil {
			return nil, nil, err
		}
		if len(u.pkgs) == known {
			return s, core, nil // asking again brought nothing new
		}
		known = len(u.pkgs)
		u.fillCandidates(jobs)
		s = newSolver(u, jobs)
		var err error
		core, err = s.solve(ctx)
		switch {
		case err != nil:
			return nil, nil, err
		case core != nil && !u.wide && u.remote():
			u.widen()
		case core == nil && u.weak && s.askReverse():
		default:
			return s, core, nil
		}
		if len(u.pending)+len(u.fresh) == 0 {
			return s, core, nil
		}
	}
}

// remote reports whether the request may ask the provider at all, and
// whether more of it could help.
func (u *universe) remote() bool {
	return len(u.request.Installed) > 0 && slices.ContainsFunc(u.request.Jobs, func(j Job) bool { return j.Action != Remove })
}

// askReverse queues what supplements the packages that the search chose.
func (s *solver) askReverse() bool {
	for v := firstVar; int(v) < len(s.pkgs); v++ {
		if p := s.pkgs[v]; s.sat.value[v] == 1 && !p.Installed {
			s.visitNames(p, func(c repo.Capability) {
				if !c.IsPath() {
					s.ask(ByReverse, c.Name)
				}
			})
		}
	}
	return len(s.pending) > 0
}

// openJobs finds what each job is about, and queues what it needs looked up.
func (u *universe) openJobs(ctx context.Context) ([]job, error) {
	jobs := make([]job, len(u.request.Jobs))
	for i, j := range u.request.Jobs {
		jobs[i] = job{Job: j, number: i + 1}
		u.askFor(j)
	}
	if err := u.close(ctx); err != nil {
		return nil, err
	}
	// A name that no package has may be a capability, as with dnf.
	for i := range jobs {
		if j := &jobs[i]; j.Action == Install && j.Spec.Kind == NameSpec && j.Spec.Arch == "" && !u.known(j.Spec) {
			j.Spec.Kind, j.Spec.Capability = CapabilitySpec, j.Spec.capability()
			u.demand(j.Spec.Capability)
		}
	}
	if err := u.close(ctx); err != nil {
		return nil, err
	}
	u.fillCandidates(jobs)
	var problems []Problem
	jobs, problems = u.splitGlobs(jobs)
	for i := range jobs {
		if line, bad := u.unmatched(&jobs[i]); bad {
			problems = append(problems, Problem{Lines: []Line{line}})
		}
	}
	if len(problems) > 0 {
		return nil, &Unsolvable{Problems: problems}
	}
	return jobs, nil
}

// known reports whether any package has the spec's name.
func (u *universe) known(s Spec) bool {
	return len(u.byName[s.Name]) > 0 || len(u.foreign[s.Name]) > 0
}

// askFor queues the lookups of a job.
func (u *universe) askFor(j Job) {
	switch {
	case j.Action == Install && j.Spec.Kind == NameSpec:
		u.ask(ByName, string(j.Spec.Name))
		if u.weak { // most likely it will be chosen, and is all that it provides
			u.ask(ByReverse, string(j.Spec.Name))
		}
	case j.Action == Install && j.Spec.Kind == GlobSpec:
		u.ask(ByGlob, j.Spec.Pattern)
	case j.Action == Install:
		u.demand(j.Spec.Capability)
	default:
		for _, q := range u.matchInstalled(j.Spec.of(j.Action)) {
			switch j.Action {
			case Remove:
				u.goes(q)
			case Upgrade:
				u.ask(ByObsoletes, string(u.pkgs[q].Name))
				u.queueDisplaced(q)
			case Reinstall:
				u.ask(ByName, string(u.pkgs[q].Name))
			}
		}
	}
}

// of returns the spec for installed packages: a version in an upgrade's spec
// is that of the successor.
func (s Spec) of(action Action) Spec {
	if action == Upgrade {
		s.Op, s.EVR = repo.Any, repo.EVR{}
	}
	return s
}

// matchInstalled returns the installed packages that a spec names; the zero
// spec names all.
func (u *universe) matchInstalled(s Spec) []lit {
	var out []lit
	for v := firstVar; int(v) < len(u.pkgs); v++ {
		if u.pkgs[v].Installed && (s.Kind == "" || s.Matches(u.pkgs[v])) {
			out = append(out, v)
		}
	}
	return out
}

// fillCandidates finds the packages of each job among those known by now.
func (u *universe) fillCandidates(jobs []job) {
	for i := range jobs {
		j := &jobs[i]
		spec := j.Spec
		if j.Action != Install {
			j.candidates = u.matchInstalled(spec.of(j.Action))
			continue
		}
		j.candidates = j.candidates[:0]
		switch spec.Kind {
		case NameSpec:
			j.candidates = u.filter(j.candidates, u.byName[spec.Name], spec)
		case GlobSpec:
			for v := firstVar; int(v) < len(u.pkgs); v++ {
				j.candidates = u.filter(j.candidates, []lit{v}, spec)
			}
		default:
			list := u.whatProvides(spec.Capability)
			j.satisfied = len(list) > 0 && list[0] == systemVar
			j.candidates = append(j.candidates, list...)
		}
	}
}

func (u *universe) filter(to, from []lit, s Spec) []lit {
	for _, v := range from {
		if s.Matches(u.pkgs[v]) {
			to = append(to, v)
		}
	}
	return to
}

// splitGlobs turns an install job by pattern into one for each name.
func (u *universe) splitGlobs(jobs []job) ([]job, []Problem) {
	var out []job
	var problems []Problem
	for _, j := range jobs {
		if j.Action != Install || j.Spec.Kind != GlobSpec {
			out = append(out, j)
			continue
		}
		names := map[repo.Name]bool{}
		for _, v := range j.candidates {
			if name := u.pkgs[v].Name; !names[name] {
				names[name] = true
				spec := Spec{Text: j.Spec.Text, Kind: NameSpec, Name: name, Arch: j.Spec.Arch}
				one := job{Job: Job{Install, spec}, number: j.number}
				one.candidates = u.filter(nil, u.byName[name], spec)
				out = append(out, one)
			}
		}
		if len(names) == 0 {
			problems = append(problems, Problem{Lines: []Line{{
				Kind: NoMatch, Requirement: j.Spec.Text, Text: "no package matches " + j.Spec.Text,
			}}})
		}
	}
	return out, problems
}
