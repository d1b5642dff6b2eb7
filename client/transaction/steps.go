package transaction

import (
	"context"
	"slices"

	"stork/client/share"
	"stork/repo"
)

// order lays out the steps of a transaction as rpm does (rpm.org, "Scriptlet
// ordering" and "File triggers"; where these are silent, as rpm 4.18 was seen
// to do): %pretrans of all that come and %preuntrans of all that go; for each
// package that comes %pre, its files, %post, and then for each one that it
// replaces %preun, removal, %postun; what goes without replacement; and at
// the end %posttrans and %postuntrans. Triggers stand around them.
type order struct {
	guest     *Guest
	read      func(share.Layer) ([]string, error) // lists a layer
	work      *work
	layers    []share.Layer
	present   []holder // what is installed, as the steps go by
	args      map[repo.Digest]int
	steps     []step
	wantFiles bool
	listed    map[repo.Digest][]string
	err       error
}

func (g *Guest) order(ctx context.Context, w *work, layers []share.Layer) ([]step, error) {
	if w.convert || w.settle {
		return w.withoutScripts(), nil
	}
	o := &order{guest: g, read: func(l share.Layer) ([]string, error) { return g.paths(ctx, l) }, work: w, layers: layers, args: map[repo.Digest]int{}, listed: map[repo.Digest][]string{}}
	for i := range g.state.Packages {
		p := &g.state.Packages[i]
		o.present = append(o.present, holderOf(p))
		o.wantFiles = o.wantFiles || len(p.FileTriggers) > 0
	}
	var coming, going []repo.Digest
	for i := range w.install {
		coming = append(coming, w.install[i].Ref.ID)
		o.wantFiles = o.wantFiles || len(w.install[i].Record.FileTriggers) > 0
	}
	for _, old := range w.leaving() {
		going = append(going, old.Ref.ID)
	}
	o.arguments()
	for i := range w.install {
		o.scripts(&w.install[i], repo.PreTrans)
	}
	for _, old := range w.leaving() {
		o.scriptsOf(old, repo.PreUnTrans)
	}
	o.transactionTriggers(repo.TransFileTriggerUn, going)
	watching := o.present
	if o.silent() {
		o.filesOnly()
	} else {
		o.interleave()
	}
	for i := range w.install {
		o.scripts(&w.install[i], repo.PostTrans)
	}
	for _, old := range w.leaving() {
		o.scriptsOf(old, repo.PostUnTran)
	}
	o.transactionTriggers(repo.TransFileTriggerIn, coming)
	o.lostTriggers(watching, going)
	o.steps = append(o.steps, w.after...)
	return o.steps, o.err
}

// lostTriggers emits what runs once after all that goes is gone. Packages
// that went themselves have no part any more.
func (o *order) lostTriggers(before []holder, going []repo.Digest) {
	var files []string
	for _, id := range going {
		files = append(files, o.files(id)...)
	}
	for _, h := range o.present {
		wasThere := slices.ContainsFunc(before, func(b holder) bool { return b.id == h.id })
		if wasThere || len(going) > 0 {
			o.emitFileTriggers([]holder{h}, repo.Digest{}, repo.TransFileTriggerPostUn, files, always)
		}
	}
}

// filesOnly: without scriptlets all that comes goes first, so that until the
// first removal everything can be undone.
func (o *order) filesOnly() {
	for i := range o.work.install {
		o.place(i)
	}
	for _, old := range o.work.leaving() {
		o.remove(old)
	}
}

func (o *order) interleave() {
	for i := range o.work.install {
		p := &o.work.install[i]
		o.bring(i)
		for _, old := range o.work.replaced(p.Ref.ID) {
			o.erase(old)
		}
	}
	for _, old := range o.work.removed() {
		o.erase(old)
	}
}

// bring is rpm's rpmPackageInstall.
func (o *order) bring(i int) {
	p := &o.work.install[i]
	h, files := newHolder(p), o.files(p.Ref.ID)
	o.othersTriggers(h, repo.TriggerPreIn, 0)
	o.ownTriggers(h, repo.TriggerPreIn, 0)
	o.scripts(p, repo.Pre)
	o.place(i)
	o.fileTriggersOn(h.id, repo.FileTriggerIn, files, early)
	o.ownFileTriggers(h, repo.FileTriggerIn, early)
	o.scripts(p, repo.Post)
	o.othersTriggers(h, repo.TriggerIn, 0)
	o.ownTriggers(h, repo.TriggerIn, 0)
	o.fileTriggersOn(h.id, repo.FileTriggerIn, files, late)
	o.ownFileTriggers(h, repo.FileTriggerIn, late)
}

// erase is rpm's rpmPackageErase.
func (o *order) erase(old *Installed) {
	h, files := holderOf(old), o.lost(old.Ref.ID)
	o.ownFileTriggers(h, repo.FileTriggerUn, early)
	o.fileTriggersOn(h.id, repo.FileTriggerUn, files, early)
	o.ownTriggers(h, repo.TriggerUn, -1)
	o.othersTriggers(h, repo.TriggerUn, -1)
	o.scriptsOf(old, repo.PreUn)
	o.ownFileTriggers(h, repo.FileTriggerUn, late)
	o.fileTriggersOn(h.id, repo.FileTriggerUn, files, late)
	watching := o.present
	o.remove(old)
	o.emitFileTriggers(watching, h.id, repo.FileTriggerPostUn, files, early)
	o.scriptsOf(old, repo.PostUn)
	o.othersTriggers(h, repo.TriggerPostUn, 0)
	o.emitFileTriggers(watching, h.id, repo.FileTriggerPostUn, files, late)
}

// arguments sets $1 for every package: how many of its name are installed
// once it is, or are left once it is gone.
func (o *order) arguments() {
	count := map[repo.Name]int{}
	for _, h := range o.present {
		count[h.nevra.Name]++
	}
	drop := func(list []*Installed) {
		for _, old := range list {
			count[old.Ref.Name]--
			o.args[old.Ref.ID] = count[old.Ref.Name]
		}
	}
	for i := range o.work.install {
		p := &o.work.install[i]
		count[p.Ref.Name]++
		coming := count[p.Ref.Name]
		drop(o.work.replaced(p.Ref.ID))
		o.args[p.Ref.ID] = coming // also of one that is installed again
	}
	drop(o.work.removed())
}

// silent reports whether nothing but files comes and goes.
func (o *order) silent() bool {
	quiet := func(h holder, scripts []repo.Scriptlet) bool {
		return len(scripts)+len(h.triggers)+len(h.fileTriggers) == 0
	}
	for i := range o.work.install {
		if p := &o.work.install[i]; !quiet(newHolder(p), p.Record.Scriptlets) {
			return false
		}
	}
	for _, h := range o.present {
		if !quiet(h, nil) {
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
	o.present = append(o.present, newHolder(p)) // who looks at an earlier state sees no further than that
}

// remove's element is filled in once the plan is made. What others look at
// stays as it is.
func (o *order) remove(old *Installed) {
	o.steps = append(o.steps, step{Kind: removeStep, ID: old.Ref.ID, Name: old.NEVRA().String()})
	i := slices.IndexFunc(o.present, func(h holder) bool { return h.id == old.Ref.ID })
	o.present = slices.Delete(slices.Clone(o.present), i, i+1)
}

func (o *order) scripts(p *Package, phase repo.Phase) {
	o.script(p.Ref.ID, p.Record.NEVRA(), p.Record.Scriptlets, phase)
}

func (o *order) scriptsOf(old *Installed, phase repo.Phase) {
	o.script(old.Ref.ID, old.NEVRA(), old.Scriptlets, phase)
}

func (o *order) script(id repo.Digest, name repo.NEVRA, list []repo.Scriptlet, phase repo.Phase) {
	if o.work.ran[ranKey{id, phase}] {
		return
	}
	for _, s := range list {
		if s.Phase == phase {
			o.steps = append(o.steps, step{Kind: scriptStep, ID: id, Name: name.String(), Phase: phase,
				Interpreter: s.Interpreter, Script: s.Script, Args: []int{o.args[id]}})
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
