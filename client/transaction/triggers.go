package transaction

import (
	"cmp"
	"slices"
	"strings"

	"stork/client/share"
	"stork/repo"
)

// earlyPriority is the priority from which on file triggers run before %post
// and %preun; the others run after (rpmPackageInstall in rpm's lib/psm.c).
const earlyPriority = 10000

// holder is an installed package as triggers see it. Triggers run between
// packages that Stork has installed; what the guest had before has no part.
type holder struct {
	id           repo.Digest
	nevra        repo.NEVRA
	triggers     []repo.Trigger
	fileTriggers []repo.FileTrigger
}

func holderOf(p *Installed) holder {
	return holder{p.Ref.ID, p.NEVRA(), p.Triggers, p.FileTriggers}
}

func newHolder(p *Package) holder {
	return holder{p.Ref.ID, p.Record.NEVRA(), p.Record.Triggers, p.Record.FileTriggers}
}

// instances returns how many packages of that name are installed at this
// point.
func (o *order) instances(name repo.Name) int {
	n := 0
	for _, h := range o.present {
		if h.nevra.Name == name {
			n++
		}
	}
	return n
}

// fires reports whether a trigger waits for that package.
func fires(t repo.Trigger, phase repo.Phase, target repo.NEVRA) bool {
	if t.Phase != phase {
		return false
	}
	have := repo.Capability{Name: string(target.Name), Op: repo.Equal, EVR: target.EVR}
	return slices.ContainsFunc(t.On, func(c repo.Capability) bool { return c.Overlaps(have) })
}

// othersTriggers emits the triggers of installed packages that wait for p.
// correction is -1 while p goes: it does not count any more.
func (o *order) othersTriggers(p holder, phase repo.Phase, correction int) {
	count := o.instances(p.nevra.Name) + correction
	for _, h := range o.present {
		if h.id == p.id {
			continue
		}
		arg := o.instances(h.nevra.Name)
		if h.nevra.Name == p.nevra.Name {
			arg += correction
		}
		for _, t := range h.triggers {
			if fires(t, phase, p.nevra) {
				o.trigger(h, p.id, phase, t.Interpreter, t.Script, "", arg, count)
			}
		}
	}
}

// ownTriggers emits the triggers of p that wait for what is installed
// already, each once.
func (o *order) ownTriggers(p holder, phase repo.Phase, correction int) {
	for _, t := range p.triggers {
		for _, h := range o.present {
			if h.id != p.id && fires(t, phase, h.nevra) {
				o.trigger(p, p.id, phase, t.Interpreter, t.Script, "", o.instances(p.nevra.Name)+correction, o.instances(h.nevra.Name))
				break
			}
		}
	}
}

// trigger emits one run. If the package that it is about fails, it is
// skipped with that package's own scriptlets.
func (o *order) trigger(h holder, about repo.Digest, phase repo.Phase, interpreter []string, script, input string, args ...int) {
	o.steps = append(o.steps, step{Kind: scriptStep, ID: about, Name: h.nevra.String(), Phase: phase,
		Interpreter: interpreter, Script: script, Args: args, Input: input})
}

// fileTriggersOn emits the file triggers of installed packages that wait for
// one of the files, those with the highest priority first.
func (o *order) fileTriggersOn(about repo.Digest, phase repo.Phase, files []string, wanted func(uint32) bool) {
	o.emitFileTriggers(o.present, about, phase, files, wanted)
}

// ownFileTriggers emits the file triggers of p for the files that are there
// already when it comes, or still there when it goes.
func (o *order) ownFileTriggers(p holder, phase repo.Phase, wanted func(uint32) bool) {
	if len(p.fileTriggers) == 0 {
		return
	}
	var files []string
	for _, h := range o.present {
		if h.id != p.id || phase == repo.FileTriggerUn {
			files = append(files, o.files(h.id)...)
		}
	}
	slices.Sort(files)
	o.emitFileTriggers([]holder{p}, p.id, phase, files, wanted)
}

func (o *order) emitFileTriggers(holders []holder, about repo.Digest, phase repo.Phase, files []string, wanted func(uint32) bool) {
	type found struct {
		holder
		repo.FileTrigger
	}
	var list []found
	for _, h := range holders {
		for _, t := range h.fileTriggers {
			if t.Phase == phase && wanted(t.Priority) {
				list = append(list, found{h, t})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b found) int { return cmp.Compare(b.Priority, a.Priority) })
	for _, f := range list {
		input := matching(files, f.Prefixes)
		if input == "" {
			continue
		}
		if phase == repo.TransFileTriggerPostUn {
			input = "" // they are gone
		}
		o.trigger(f.holder, about, phase, f.Interpreter, f.Script, input, 0)
	}
}

// matching returns the files below one of the prefixes, one a line, as a file
// trigger reads them.
func matching(files, prefixes []string) string {
	var lines strings.Builder
	for _, f := range files {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(f, prefix) && f != prefix }) {
			lines.WriteString(f)
			lines.WriteByte('\n')
		}
	}
	return lines.String()
}

func early(priority uint32) bool { return priority >= earlyPriority }
func late(priority uint32) bool  { return priority < earlyPriority }
func always(uint32) bool         { return true }

// files lists what a package has. Only file triggers want to know, so it is
// asked for only if a package has some.
func (o *order) files(id repo.Digest) []string {
	if !o.wantFiles || o.err != nil {
		return nil
	}
	if list, ok := o.listed[id]; ok {
		return list
	}
	var list []string
	if i := slices.IndexFunc(o.work.install, func(p Package) bool { return p.Ref.ID == id }); i >= 0 {
		list, o.err = o.read(o.layers[i])
	} else if p := o.guest.state.Find(id); p != nil && p.Placed.Method == share.Overlay {
		list, o.err = o.read(share.Layer{ID: id, Name: p.NEVRA().String(), Private: p.private()})
	} else if p != nil {
		list, o.err = p.Placed.Paths(o.guest.root)
	}
	o.listed[id] = list
	return list
}

// lost returns the files of a package that goes which none that comes has.
func (o *order) lost(id repo.Digest) []string {
	list := o.files(id)
	if len(list) == 0 {
		return nil
	}
	stay := map[string]bool{}
	for i := range o.work.install {
		for _, f := range o.files(o.work.install[i].Ref.ID) {
			stay[f] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(f string) bool { return stay[f] })
}

// transactionTriggers emits the file triggers that run once for all packages.
func (o *order) transactionTriggers(phase repo.Phase, ids []repo.Digest) {
	var files []string
	for _, id := range ids {
		files = append(files, o.files(id)...)
	}
	slices.Sort(files)
	var all []string
	for _, h := range o.present {
		all = append(all, o.files(h.id)...)
	}
	slices.Sort(all)
	for _, h := range o.present {
		seen := files
		if slices.Contains(ids, h.id) {
			seen = all // it comes or goes itself: everything is new to it, or lost
		}
		o.emitFileTriggers([]holder{h}, repo.Digest{}, phase, seen, always)
	}
}
