package transaction

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"stork/client/share"
	"stork/repo"
)

// recipe is what an environment was asked for with, so that it can be asked
// for again.
type recipe struct {
	ID       repo.Digest       `json:"id"`
	Packages []repo.Digest     `json:"packages"`
	Aliases  map[string]string `json:"aliases,omitempty"`
	Upper    bool              `json:"upper,omitempty"`
}

// maxRounds is how often a plan is made anew because planning has found more
// symlinks of directories.
const maxRounds = 32

// errNoOverlay is told where a guest has overlays and lacks the nest to change
// them.
var errNoOverlay = errors.New("cannot change an environment: there is no nest")

// announce tells the nest what comes, so that the layers of private files
// stay until they are written (G4).
func (g *Guest) announce(ctx context.Context, w *work) error {
	if g.options.Hooks.References == nil || len(w.install) == 0 || w.convert {
		return nil
	}
	g.told = nil
	ids := w.refs(g.state)
	if err := g.options.Hooks.References(ctx, ids, nil); err != nil {
		return fmt.Errorf("cannot tell the nest what comes: %w", err)
	}
	g.told = sorted(ids)
	return nil
}

// used names the environment that the guest has now, for the nest to keep;
// nil says nothing of environments.
func (g *Guest) used() []repo.Digest {
	switch {
	case g.state.Environment != nil:
		return []repo.Digest{g.state.Environment.ID}
	case g.asked:
		return []repo.Digest{}
	}
	return nil
}

// ask has an environment attached.
func (g *Guest) ask(ctx context.Context, r recipe, keep []repo.Digest) (*share.Environment, error) {
	if len(r.Packages) == 0 {
		return nil, nil
	}
	if g.options.Hooks.Environment == nil {
		return nil, errNoOverlay
	}
	g.asked = true
	e, err := g.options.Hooks.Environment(ctx, EnvironmentRequest{Packages: r.Packages, Aliases: r.Aliases, Keep: keep, Upper: r.Upper})
	if err != nil {
		return nil, fmt.Errorf("cannot get the environment: %w", err)
	}
	return e, nil
}

// overlaid returns the packages that the environment is made of.
func (s *State) overlaid() []repo.Digest {
	var ids []repo.Digest
	for i := range s.Packages {
		if s.Packages[i].Placed.Method == share.Overlay {
			ids = append(ids, s.Packages[i].Ref.ID)
		}
	}
	return ids
}

// recipe is that of what a state has mounted.
func (s *State) recipe() recipe {
	packages := s.Merged
	if packages == nil {
		packages = s.overlaid()
	}
	return recipe{ID: s.Environment.ID, Packages: packages, Aliases: s.Aliases, Upper: s.Environment.Upper != ""}
}

// mounted notes what the guest has mounted once an element is applied.
func (s *State) mounted(e *share.Element) {
	switch {
	case e.Environment == nil:
	case e.Environment.None():
		s.Environment = nil
	default:
		s.Environment = e.Environment
	}
}

// made notes what the environment was asked for with.
func (s *State) made(recipes []recipe) {
	if s.Environment == nil {
		s.Aliases, s.Merged = nil, nil
		return
	}
	for _, r := range recipes {
		if r.ID == s.Environment.ID {
			s.Aliases, s.Merged = r.Aliases, sorted(r.Packages)
		}
	}
	if slices.Equal(s.Merged, sorted(s.overlaid())) {
		s.Merged = nil
	}
}

// makePlan makes the plan of a change, and with overlays has the environments
// attached that it is about.
func (g *Guest) makePlan(ctx context.Context, w *work, change *share.Change) (*share.Plan, []recipe, error) {
	if w.method != share.Overlay {
		plan, err := share.MakePlan(ctx, g.root, g.state.placed(), *change)
		if err != nil {
			return nil, nil, err
		}
		if n := plan.Mounts(g.state.placed()); w.method == share.Bind && w.budget > 0 && n > w.budget && len(w.install) > 0 {
			return nil, nil, &BudgetError{Mounts: n, Budget: w.budget}
		}
		var recipes []recipe
		if w.convert && g.state.Environment != nil {
			recipes = []recipe{g.state.recipe()}
		}
		return plan, recipes, nil
	}
	base, err := g.recipe()
	if err != nil {
		return nil, nil, err
	}
	for range maxRounds {
		recipes, err := g.environments(ctx, w, base, change)
		if err != nil {
			return nil, nil, err
		}
		plan, err := share.MakePlan(ctx, g.root, g.state.placed(), *change)
		var more *share.AliasError
		if !errors.As(err, &more) {
			return plan, recipes, err
		}
		maps.Copy(base.Aliases, more.Aliases)
	}
	return nil, nil, errors.New("cannot get the environment: the guest has too many symlinks of directories")
}

// recipe is what environments of this guest are asked for with.
func (g *Guest) recipe() (recipe, error) {
	r := recipe{}
	var err error
	if r.Aliases, err = g.aliases(); err != nil {
		return r, err
	}
	if now := g.state.Environment; now != nil {
		r.Upper = now.Upper != ""
		return r, nil
	}
	means, err := share.Probe(g.root, "", g.state.placed())
	if err == nil && (!means.Mount || means.Placed) { // where else they can not be planning finds out
		err = fmt.Errorf("cannot mount overlays: %s", means.Why)
	}
	r.Upper = means.Upper
	return r, err
}

// aliases returns the guest's own symlinks of directories: those in its root
// directory, and those that earlier plans found and that are still there.
func (g *Guest) aliases() (map[string]string, error) {
	aliases, err := g.root.Aliases()
	if err != nil {
		return nil, err
	}
	for p, target := range g.state.Aliases {
		at := filepath.Join(g.options.Root, p)
		st, err := os.Lstat(at)
		if err != nil || st.Mode()&os.ModeSymlink == 0 {
			continue
		}
		leads, err := os.Stat(at)
		if err != nil {
			continue
		}
		if wants, err := os.Stat(filepath.Join(g.options.Root, target)); err == nil && os.SameFile(leads, wants) {
			aliases[p] = target
		}
	}
	if now := g.state.Environment; now != nil {
		for _, l := range now.Links {
			if !l.Own {
				delete(aliases, l.Path) // it is a package's
			}
		}
	}
	return aliases, nil
}

// environments has those of a change attached, and returns their recipes in
// the order in which they can be asked for again.
func (g *Guest) environments(ctx context.Context, w *work, base recipe, change *share.Change) ([]recipe, error) {
	var recipes []recipe
	var keep []repo.Digest
	if g.state.Environment != nil {
		recipes = append(recipes, g.state.recipe())
		keep = append(keep, g.state.Environment.ID)
	}
	get := func(packages []repo.Digest) (*share.Environment, error) {
		r := base
		r.Packages, r.Aliases = packages, maps.Clone(base.Aliases)
		e, err := g.ask(ctx, r, keep)
		if err != nil || e.None() {
			return e, err
		}
		r.ID = e.ID
		recipes, keep = append(recipes, r), append(keep, e.ID)
		return e, nil
	}
	var err error
	if change.Through = nil; w.needsThrough() {
		if change.Through, err = get(w.packages(g.state, false)); err != nil {
			return nil, err
		}
	}
	change.Next, err = get(w.packages(g.state, true))
	return recipes, err
}

// needsThrough reports whether something goes for good whose scriptlets may
// want its files, while other packages come.
func (w *work) needsThrough() bool {
	return len(w.install) > 0 && slices.ContainsFunc(w.remove, func(old *Installed) bool {
		return len(old.Scriptlets)+len(old.Triggers)+len(old.FileTriggers) > 0
	})
}

// packages returns what an environment is made of once the work is done, or,
// before it is gone, with what goes without successor.
func (w *work) packages(s *State, done bool) []repo.Digest {
	ids := s.overlaid()
	gone := w.allReplaced()
	if done {
		for _, old := range w.remove {
			gone = append(gone, old.Ref.ID)
		}
	}
	ids = slices.DeleteFunc(ids, func(id repo.Digest) bool { return contains(gone, id) })
	for i := range w.install {
		if id := w.install[i].Ref.ID; !contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// settle makes the environment that of what is installed. If a package failed
// it may be another.
func (g *Guest) settle(ctx context.Context, outcome *Outcome) error {
	if len(outcome.Failed) == 0 || g.state.Environment == nil {
		return nil
	}
	_, err := g.attempt(context.WithoutCancel(ctx), &work{method: share.Overlay, settle: true}, &Outcome{})
	return err
}

// unsettled reports whether the environment is not that of what is installed.
func (s *State) unsettled() bool { return s.Environment != nil && s.Merged != nil }

// settleLeft does what settle does, or the exchange of a removal, where an
// earlier command could not. It may be in vain again: the guest is as it was.
func (g *Guest) settleLeft(ctx context.Context) {
	if !g.state.unsettled() || g.options.Hooks.Environment == nil {
		return
	}
	base, outcome := g.state, &Outcome{}
	g.asked = true
	_, err := g.attempt(context.WithoutCancel(ctx), &work{method: share.Overlay, settle: true}, outcome)
	if err != nil {
		outcome.Warnings = append(outcome.Warnings, fmt.Sprintf("what an earlier command has left is still to be seen: %v", err))
	} else {
		g.released(ctx, Change{}, outcome)
		g.unsee(ctx, base)
	}
	g.late = outcome.Warnings
}

// current has the guest's environment attached, as it has to be after a
// restart.
func (g *Guest) current(ctx context.Context) (*share.Environment, error) {
	e := *g.state.Environment
	fresh, err := g.ask(ctx, g.state.recipe(), nil)
	if err != nil {
		return nil, err
	}
	if fresh.None() || fresh.ID != e.ID {
		return nil, errors.New("cannot get the environment: it is not that of what is installed; the next transaction makes it so")
	}
	e.Trees, e.Upper = fresh.Trees, fresh.Upper
	return &e, nil
}

// reattach has the environments of a journal attached again, in case the guest
// was restarted, and enters where they are now.
func (g *Guest) reattach(ctx context.Context, j *journal) error {
	found := map[repo.Digest]*share.Environment{}
	var keep []repo.Digest
	for _, r := range j.Environments {
		keep = append(keep, r.ID)
	}
	for _, r := range j.Environments {
		e, err := g.ask(ctx, r, keep)
		if err != nil {
			return err
		}
		if !e.None() {
			found[e.ID] = e
		}
	}
	list := j.Plan.Environments()
	if g.state.Environment != nil {
		list = append(list, g.state.Environment)
	}
	for _, e := range list {
		if fresh := found[e.ID]; fresh != nil {
			e.Trees, e.Upper = fresh.Trees, fresh.Upper
		}
	}
	return nil
}

// verifyEnvironment compares the guest with its environment. With ids, only
// what these packages have counts, and what is wrong with all of it.
func (g *Guest) verifyEnvironment(ctx context.Context, ids []repo.Digest) ([]share.Problem, error) {
	e := g.state.Environment
	for _, tree := range e.Trees {
		if _, err := os.Lstat(tree); err == nil {
			continue
		}
		var err error
		if e, err = g.current(ctx); err != nil {
			return nil, err
		}
		break
	}
	problems, err := e.Check(ctx, g.root)
	if err != nil || len(problems) == 0 {
		return nil, err
	}
	views, err := g.attach(ctx, g.state.overlaid(), nil)
	if err != nil {
		g.log.Warn("cannot attach layers", "err", err)
	}
	var found []share.Problem
	for _, p := range problems {
		if p.What != share.Unmounted {
			p.ID = ownerOf(p.Path, views)
		}
		if len(ids) == 0 || p.ID.IsZero() || contains(ids, p.ID) {
			found = append(found, p)
		}
	}
	return found, nil
}

// ownerOf returns a package whose layer has a path, the zero digest if none
// has it under that name.
func ownerOf(path string, views map[repo.Digest]string) repo.Digest {
	var owner repo.Digest
	for id, view := range views {
		if _, err := os.Lstat(filepath.Join(view, path)); err == nil && (owner.IsZero() || id.Hex() < owner.Hex()) {
			owner = id
		}
	}
	return owner
}

// paths lists what a layer has. With overlays it may not be attached yet.
func (g *Guest) paths(ctx context.Context, layer share.Layer) ([]string, error) {
	if layer.View == "" {
		views, err := g.attach(ctx, []repo.Digest{layer.ID}, nil)
		if err != nil {
			return nil, err
		}
		layer.View = views[layer.ID]
	}
	return layer.Paths()
}

// ErrLayer says that the layer of a package can not be looked at.
var ErrLayer = errors.New("its layer can not be had")

// Paths lists what an installed package has in the guest, sorted. With
// overlays the nest has to be asked; if it can not be, the list has only what
// is private to the guest, and the error wraps [ErrLayer]. A layer that is
// attached for it leaves the view with the next transaction.
func (g *Guest) Paths(ctx context.Context, p *Installed) ([]string, error) {
	list, err := p.Placed.Paths(g.root)
	if err != nil || p.Placed.Method != share.Overlay {
		return list, err
	}
	views, err := g.attach(ctx, []repo.Digest{p.Ref.ID}, nil)
	if err == nil && views[p.Ref.ID] == "" {
		err = errNoOverlay
	}
	if err != nil {
		return list, fmt.Errorf("cannot list all files of %s: %w: %w", p.NEVRA(), ErrLayer, err)
	}
	layer := share.Layer{ID: p.Ref.ID, Name: p.NEVRA().String(), View: views[p.Ref.ID], Private: p.private()}
	shared, err := layer.Paths()
	list = append(list, shared...)
	slices.Sort(list)
	return slices.Compact(list), err
}

// private lists the package's private files as its layer has them.
func (p *Installed) private() []repo.File {
	var list []repo.File
	for i := range p.Placed.Files {
		f := &p.Placed.Files[i]
		list = append(list, repo.File{Path: f.Path, Type: f.Type, Mode: f.Mode, User: f.User, Group: f.Group, Flags: f.Flags})
	}
	return list
}

// Means finds out how packages can be shared in this guest.
func (g *Guest) Means() (share.Means, error) {
	view := ""
	if g.options.Hooks.Attach != nil {
		view = "of the nest"
	}
	return share.Probe(g.root, view, g.state.placed())
}
