package solve

import (
	"errors"
	"slices"
)

var errBroken = errors.New("cannot solve: the solver's answer breaks a rule, which is a defect of Stork; please report it")

// answer is the set of packages that a search ended with.
type answer struct {
	*solver
	present  []bool // by variable
	neededBy []lit  // by variable: the first package that requires it
}

// take reads the answer out of a search that succeeded, drops what turned
// out not to be needed, and checks every rule once more.
func (s *solver) take() (*answer, error) {
	a := &answer{solver: s, present: make([]bool, len(s.pkgs))}
	for v := range a.present {
		a.present[v] = s.sat.value[v] == 1
	}
	a.prune()
	for i := range s.sat.rules {
		r := &s.sat.rules[i]
		if !r.learnt && !r.weak && !r.disabled && a.support(r, 0) == 0 {
			return nil, errBroken
		}
	}
	for _, g := range s.sat.groups {
		if n := len(slices.DeleteFunc(slices.Clone(g), func(v lit) bool { return !a.present[v] })); n > 1 {
			return nil, errBroken
		}
	}
	return a, nil
}

// support counts the literals that make a rule hold, but for variable
// without.
func (a *answer) support(r *rule, without lit) (n int) {
	count := func(l lit) {
		if l.v() != without && a.present[l.v()] == (l > 0) {
			n++
		}
	}
	count(r.p)
	for _, l := range r.d {
		count(l)
	}
	return n
}

// prune takes out new packages that nothing needs after all: an earlier
// choice may have been made superfluous by a later one.
func (a *answer) prune() {
	uses := map[lit][]int{} // by new package: the rules it makes hold
	for i := range a.sat.rules {
		r := &a.sat.rules[i]
		if r.learnt || r.weak || r.disabled {
			continue
		}
		note := func(l lit) {
			if l > systemVar && a.present[l] && !a.pkgs[l].Installed {
				uses[l] = append(uses[l], i)
			}
		}
		note(r.p)
		for _, l := range r.d {
			note(l)
		}
	}
	for again := true; again; {
		again = false
		for v := lit(len(a.pkgs) - 1); v >= firstVar; v-- {
			if a.present[v] && !a.pkgs[v].Installed && a.superfluous(v, uses[v]) {
				a.present[v] = false
				again = true
			}
		}
	}
}

func (a *answer) superfluous(v lit, uses []int) bool {
	if _, weak := a.weakTaken[v]; weak || a.replacesPresent(v) {
		return false
	}
	return !slices.ContainsFunc(uses, func(i int) bool { return a.support(&a.sat.rules[i], v) == 0 })
}

// replacesPresent reports whether v has taken the place of something.
func (a *answer) replacesPresent(v lit) bool {
	return len(a.replaced[v]) > 0 || slices.ContainsFunc(a.jobs, func(j job) bool {
		return j.Action == Upgrade && slices.ContainsFunc(j.candidates, func(q lit) bool { return a.pkgs[q].Name == a.pkgs[v].Name })
	})
}

// transaction turns the answer into what is to be done.
func (a *answer) transaction() *Transaction {
	a.noteNeeded()
	t := &Transaction{}
	var coming, going []lit
	olds := map[lit][]lit{}
	taken := map[lit]bool{}
	for v := firstVar; int(v) < len(a.pkgs); v++ {
		if a.present[v] && !a.pkgs[v].Installed {
			coming = append(coming, v)
		}
	}
	for _, sameName := range []bool{true, false} {
		for _, v := range coming {
			for _, q := range a.replaced[v] {
				if !a.present[q] && !taken[q] && (a.pkgs[q].Name == a.pkgs[v].Name) == sameName {
					taken[q] = true
					olds[v] = append(olds[v], q)
				}
			}
		}
	}
	for _, q := range a.installed {
		if !a.present[q] && !taken[q] {
			going = append(going, q)
		}
	}
	again := a.reinstalls()
	for _, v := range a.order(append(coming, again...)) {
		a.addComing(t, v, olds[v])
	}
	for _, v := range slices.Backward(a.order(going)) {
		t.Remove = append(t.Remove, Item{Package: a.pkgs[v], Reason: a.pkgs[v].Reason})
		t.Steps = append(t.Steps, Step{Action: Remove, Package: a.pkgs[v]})
	}
	for _, j := range a.jobs {
		if j.Action == Install && (j.satisfied || a.wasThere(j)) {
			t.Satisfied = append(t.Satisfied, j.Spec)
		}
	}
	t.Weak = a.missing(func(v lit) bool { return a.present[v] })
	return t
}

func (a *answer) wasThere(j job) bool {
	return slices.ContainsFunc(j.candidates, func(v lit) bool { return a.pkgs[v].Installed && a.present[v] })
}

// reinstalls returns the installed packages that are to be installed again.
func (a *answer) reinstalls() []lit {
	var out []lit
	for _, j := range a.jobs {
		for _, q := range j.candidates {
			if j.Action == Reinstall && a.present[q] && !slices.Contains(out, q) {
				out = append(out, q)
			}
		}
	}
	return out
}

func (a *answer) addComing(t *Transaction, v lit, olds []lit) {
	p := a.pkgs[v]
	if p.Installed {
		t.Reinstall = append(t.Reinstall, a.copies[v])
		t.Steps = append(t.Steps, Step{Action: Reinstall, Package: a.copies[v]})
		return
	}
	item := Item{Package: p}
	item.Reason, item.For = a.reason(v)
	if len(olds) == 0 {
		t.Install = append(t.Install, item)
		t.Steps = append(t.Steps, Step{Action: Install, Package: p})
		return
	}
	replacement := Replacement{New: p, Reason: a.pkgs[olds[0]].Reason}
	for _, q := range olds {
		replacement.Old = append(replacement.Old, a.pkgs[q])
		if a.pkgs[q].Reason == User {
			replacement.Reason = User
		}
	}
	if item.Reason == User {
		replacement.Reason = User
	}
	t.Upgrade = append(t.Upgrade, replacement)
	t.Steps = append(t.Steps, Step{Action: Upgrade, Package: p, Old: replacement.Old})
}

// reason says why a new package comes, and for which other one.
func (a *answer) reason(v lit) (Reason, *Package) {
	for _, j := range a.jobs {
		if j.Action == Install && slices.Contains(j.candidates, v) {
			return User, nil
		}
	}
	if by, ok := a.weakTaken[v]; ok {
		if by == 0 {
			return Weak, nil
		}
		return Weak, a.pkgs[by]
	}
	if by := a.neededBy[v]; by != 0 {
		return Dependency, a.pkgs[by]
	}
	return Dependency, nil
}

// noteNeeded finds for every new package the first one that requires it.
func (a *answer) noteNeeded() {
	a.neededBy = make([]lit, len(a.pkgs))
	for i := range a.sat.rules {
		r := &a.sat.rules[i]
		if r.kind != Needs || r.weak || !a.present[r.pkg] {
			continue
		}
		for _, v := range r.d {
			if v > systemVar && a.neededBy[v] == 0 {
				a.neededBy[v] = r.pkg
			}
		}
	}
}
