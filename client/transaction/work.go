package transaction

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stork/client/scriptlet"
	"stork/client/share"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// work is what is left of a change. A package that fails drops out of it, and
// the rest is planned again.
type work struct {
	method   share.Method
	budget   int // mounts; 0: any number
	convert  bool
	settle   bool          // only the environment is to become that of what is installed
	choice   *share.Method // see [Change]
	install  []Package
	replaces map[repo.Digest][]*Installed
	remove   []*Installed
	reasons  map[repo.Digest]Reason
	ran      map[ranKey]bool // scriptlets that ran before a new plan was needed
	after    []step          // what is to run at the end for packages that are done
}

type ranKey struct {
	id    repo.Digest
	phase repo.Phase
}

// newWork checks a change against what is installed and against what can be
// run here, before anything is changed.
func (g *Guest) newWork(c Change) (*work, error) {
	w := &work{method: c.Method, budget: c.Budget, choice: c.Choice, install: slices.Clone(c.Install),
		replaces: map[repo.Digest][]*Installed{}, reasons: c.Reasons, ran: map[ranKey]bool{}}
	if c.Convert {
		return w, g.checkConversion(w)
	}
	if w.method == "" {
		w.method = cmp.Or(g.state.Sharing(), share.Bind)
	}
	gone := map[repo.Digest]bool{}
	take := func(id repo.Digest) (*Installed, error) {
		old := g.state.Find(id)
		if old == nil || gone[id] {
			return nil, fmt.Errorf("cannot remove package %s: it is not installed, or named twice", id.Short())
		}
		gone[id] = true
		return old, g.supported(old)
	}
	for i := range w.install {
		p := &w.install[i]
		for _, id := range c.Replaces[p.Ref.ID] {
			old, err := take(id)
			if err != nil {
				return nil, err
			}
			w.replaces[p.Ref.ID] = append(w.replaces[p.Ref.ID], old)
		}
	}
	for _, id := range c.Remove {
		old, err := take(id)
		if err != nil {
			return nil, err
		}
		w.remove = append(w.remove, old)
	}
	coming := map[repo.Digest]bool{}
	for i := range w.install {
		if err := g.checkPackage(&w.install[i], gone, coming); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (g *Guest) checkPackage(p *Package, gone, coming map[repo.Digest]bool) error {
	if p.Record == nil || p.Ref.ID.IsZero() || p.Ref.Name != p.Record.Name {
		return fmt.Errorf("cannot install %s: its record is missing", p.Ref.Name)
	}
	name := p.Record.NEVRA().String()
	if coming[p.Ref.ID] || g.state.Find(p.Ref.ID) != nil && !gone[p.Ref.ID] {
		return fmt.Errorf("cannot install %s: it is installed already", name)
	}
	coming[p.Ref.ID] = true
	if p.LayerPath == "" && g.options.Hooks.Attach == nil {
		return fmt.Errorf("cannot install %s: there is neither a nest nor a layer", name)
	}
	var failed error
	for _, s := range p.Record.Scriptlets {
		if s.Phase != repo.Verify {
			failed = errors.Join(failed, scriptlet.Supported(name, s.Phase, s.Interpreter))
		}
	}
	return errors.Join(failed, supportedTriggers(newHolder(p)))
}

func supportedTriggers(h holder) error {
	var failed error
	for _, t := range h.triggers {
		failed = errors.Join(failed, scriptlet.Supported(h.nevra.String(), t.Phase, t.Interpreter))
	}
	for _, t := range h.fileTriggers {
		failed = errors.Join(failed, scriptlet.Supported(h.nevra.String(), t.Phase, t.Interpreter))
	}
	return failed
}

func (g *Guest) supported(old *Installed) error {
	var failed error
	for _, s := range old.Scriptlets {
		failed = errors.Join(failed, scriptlet.Supported(old.NEVRA().String(), s.Phase, s.Interpreter))
	}
	return failed
}

func (w *work) replaced(id repo.Digest) []*Installed { return w.replaces[id] }
func (w *work) removed() []*Installed                { return w.remove }

// leaving returns all that goes, in order.
func (w *work) leaving() []*Installed {
	var list []*Installed
	for i := range w.install {
		list = append(list, w.replaces[w.install[i].Ref.ID]...)
	}
	return append(list, w.remove...)
}

func (w *work) allReplaced() []repo.Digest {
	var ids []repo.Digest
	for i := range w.install {
		for _, old := range w.replaces[w.install[i].Ref.ID] {
			ids = append(ids, old.Ref.ID)
		}
	}
	return ids
}

func (w *work) empty() bool { return len(w.install) == 0 && len(w.remove) == 0 && len(w.after) == 0 }

// change is the work as placing sees it.
func (w *work) change(s *State, views map[repo.Digest]string, tag string) share.Change {
	c := share.Change{Method: w.method, Tag: tag, Names: map[repo.Digest]string{}, Convert: w.convert, Now: s.Environment}
	for i := range w.install {
		p := &w.install[i]
		c.Add = append(c.Add, share.Layer{ID: p.Ref.ID, Name: p.nevra().String(), View: views[p.Ref.ID], Private: p.Private})
	}
	for _, old := range w.leaving() {
		c.Remove = append(c.Remove, old.Ref.ID)
	}
	for i := range s.Packages {
		c.Names[s.Packages[i].Ref.ID] = s.Packages[i].NEVRA().String()
	}
	return c
}

// entry is what the state will say of a package.
func (g *Guest) entry(p *Package, placed share.Placed) Installed {
	if p.have != nil {
		e := *p.have
		e.Placed = placed
		return e
	}
	object := p.Object
	if object.Digest.IsZero() {
		object.Digest = p.Ref.ID
	}
	e := Installed{Entry: index.EntryOf(p.Record, object), FileTriggers: p.Record.FileTriggers, Placed: placed,
		Reason: p.Reason, Ref: p.Ref, Time: g.now().Unix(), Triggers: p.Record.Triggers}
	if e.Reason == "" {
		e.Reason = ByUser
	}
	for _, s := range p.Record.Scriptlets {
		if goes(s.Phase) {
			e.Scriptlets = append(e.Scriptlets, s)
		}
	}
	return e
}

// reinstalled returns the packages that are placed again as they are: with
// overlays their layers say which of the guest's own files are in their way.
func (w *work) reinstalled(s *State) []repo.Digest {
	var ids []repo.Digest
	for i := range w.install {
		if id := w.install[i].Ref.ID; !w.convert && s.Find(id) != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// refs returns the IDs of what is installed and what comes.
func (w *work) refs(s *State) []repo.Digest {
	ids := s.IDs()
	for i := range w.install {
		if id := w.install[i].Ref.ID; !contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Refs names the installed packages as the nest knows them.
func (s *State) Refs() []api.PackageRef {
	refs := make([]api.PackageRef, len(s.Packages))
	for i := range s.Packages {
		refs[i] = s.Packages[i].Ref
	}
	return refs
}
