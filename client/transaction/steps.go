package transaction

import (
	"stork/repo"
)

// order lays out the steps of a transaction as rpm does (rpm.org, "Scriptlet
// ordering"): %pretrans of all that come and %preuntrans of all that go; for
// each package that comes %pre, its files, %post, and then for each one that
// it replaces %preun, removal, %postun; what goes without replacement; and at
// the end %posttrans and %postuntrans.
type order struct {
	work  *work
	count map[repo.Name]int // instances installed, as the steps go by
	steps []step
}

func (g *Guest) order(w *work) []step {
	o := &order{work: w, count: map[repo.Name]int{}}
	for i := range g.state.Packages {
		o.count[g.state.Packages[i].Ref.Name]++
	}
	args := o.arguments()
	for i := range w.install {
		p := &w.install[i]
		o.scripts(p, p.Record.Scriptlets, repo.PreTrans, args[p.Ref.ID])
	}
	for _, old := range w.leaving() {
		o.scriptsOf(old, repo.PreUnTrans, args[old.Ref.ID])
	}
	if o.silent() {
		// Nothing but files: all that comes goes first, so that until the
		// first removal everything can be undone.
		for i := range w.install {
			o.place(i)
		}
		for _, old := range w.leaving() {
			o.remove(old)
		}
	} else {
		o.interleave(args)
	}
	for i := range w.install {
		p := &w.install[i]
		o.scripts(p, p.Record.Scriptlets, repo.PostTrans, args[p.Ref.ID])
	}
	for _, old := range w.leaving() {
		o.scriptsOf(old, repo.PostUnTran, args[old.Ref.ID])
	}
	return append(o.steps, w.after...)
}

func (o *order) interleave(args map[repo.Digest]int) {
	for i := range o.work.install {
		p := &o.work.install[i]
		o.scripts(p, p.Record.Scriptlets, repo.Pre, args[p.Ref.ID])
		o.place(i)
		o.scripts(p, p.Record.Scriptlets, repo.Post, args[p.Ref.ID])
		for _, old := range o.work.replaced(p.Ref.ID) {
			o.erase(old, args)
		}
	}
	for _, old := range o.work.removed() {
		o.erase(old, args)
	}
}

func (o *order) erase(old *Installed, args map[repo.Digest]int) {
	o.scriptsOf(old, repo.PreUn, args[old.Ref.ID])
	o.remove(old)
	o.scriptsOf(old, repo.PostUn, args[old.Ref.ID])
}

// arguments returns $1 for every package: how many of its name are installed
// once it is, or are left once it is gone.
func (o *order) arguments() map[repo.Digest]int {
	args := map[repo.Digest]int{}
	drop := func(list []*Installed) {
		for _, old := range list {
			o.count[old.Ref.Name]--
			args[old.Ref.ID] = o.count[old.Ref.Name]
		}
	}
	for i := range o.work.install {
		p := &o.work.install[i]
		o.count[p.Ref.Name]++
		drop(o.work.replaced(p.Ref.ID))
		if _, reinstalled := args[p.Ref.ID]; reinstalled {
			args[p.Ref.ID] = 2 // as rpm --replacepkgs counts
			continue
		}
		args[p.Ref.ID] = o.count[p.Ref.Name] + o.work.replacedNamed(p)
	}
	drop(o.work.removed())
	return args
}

// silent reports whether nothing but files comes and goes.
func (o *order) silent() bool {
	for i := range o.work.install {
		if len(o.work.install[i].Record.Scriptlets) > 0 {
			return false
		}
	}
	for _, old := range o.work.leaving() {
		if len(old.Scriptlets) > 0 {
			return false
		}
	}
	return len(o.work.after) == 0
}

func (o *order) place(i int) {
	p := &o.work.install[i]
	o.steps = append(o.steps, step{Kind: placeStep, ID: p.Ref.ID, Name: p.Record.NEVRA().String(), Element: i})
}

// remove's element is filled in once the plan is made.
func (o *order) remove(old *Installed) {
	o.steps = append(o.steps, step{Kind: removeStep, ID: old.Ref.ID, Name: old.NEVRA().String()})
}

func (o *order) scripts(p *Package, list []repo.Scriptlet, phase repo.Phase, arg int) {
	if !o.work.ran[ranKey{p.Ref.ID, phase}] {
		o.script(p.Ref.ID, p.Record.NEVRA(), list, phase, arg)
	}
}

func (o *order) scriptsOf(old *Installed, phase repo.Phase, arg int) {
	if !o.work.ran[ranKey{old.Ref.ID, phase}] {
		o.script(old.Ref.ID, old.NEVRA(), old.Scriptlets, phase, arg)
	}
}

func (o *order) script(id repo.Digest, name repo.NEVRA, list []repo.Scriptlet, phase repo.Phase, arg int) {
	for _, s := range list {
		if s.Phase == phase {
			o.steps = append(o.steps, step{Kind: scriptStep, ID: id, Name: name.String(), Phase: phase,
				Interpreter: s.Interpreter, Script: s.Script, Args: []int{arg}})
		}
	}
}

// goes reports whether a phase belongs to a package's removal.
func goes(phase repo.Phase) bool {
	switch phase {
	case repo.PreUn, repo.PostUn, repo.PreUnTrans, repo.PostUnTran:
		return true
	}
	return false
}

// decides reports whether a package is left as it was if its scriptlet of
// that phase fails; the failure of any other is a warning.
func decides(phase repo.Phase) bool {
	switch phase {
	case repo.PreTrans, repo.Pre, repo.PreUn, repo.PreUnTrans:
		return true
	}
	return false
}
