package transaction

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"stork/client/scriptlet"
	"stork/client/share"
	"stork/repo"
)

// Run carries out a change. Until the first scriptlet runs, or the first file
// of a package that goes is removed, every error leaves the guest as it was.
// After that a package that fails is left as it was (Outcome.Failed) and the
// others are carried on with, as rpm does.
//
// Errors: [share.ConflictError] where paths are in the way;
// [scriptlet.FailedError] in Outcome.Failed.
func (g *Guest) Run(ctx context.Context, change Change) (*Outcome, error) {
	if g.lock == nil {
		return nil, errors.New("cannot change the guest: it was opened for reading only")
	}
	if g.unknown != nil && g.state.Mounts() > 0 {
		return nil, fmt.Errorf("cannot change what the nest has mounted: %w", g.unknown)
	}
	w, err := g.newWork(change)
	if err != nil {
		return nil, err
	}
	outcome := &Outcome{Warnings: g.late}
	g.late = nil
	if w.empty() {
		return outcome, g.remember(w)
	}
	g.asked = g.state.Environment != nil
	base := g.state
	for !w.empty() {
		w, err = g.attempt(ctx, w, outcome)
		if err != nil && len(outcome.Installed)+len(outcome.Removed) == 0 {
			return nil, err
		}
		if err != nil {
			// Part of the change is committed: the rest has failed.
			g.failAll(w, err, outcome)
			break
		}
	}
	if err := g.settle(ctx, outcome); err != nil {
		outcome.Warnings = append(outcome.Warnings, fmt.Sprintf("what failed is still to be seen, until the next transaction: %v", err))
	}
	g.released(ctx, change, outcome)
	g.unsee(ctx, base)
	return outcome, nil
}

// remember changes why packages are installed and how the owner wants them
// shared, and nothing else.
func (g *Guest) remember(w *work) error {
	if len(w.reasons) == 0 && (w.choice == nil || *w.choice == g.state.Method) {
		return nil
	}
	next := g.state.clone()
	next.Serial++
	next.setReasons(w.reasons)
	next.choose(w.choice)
	if err := g.writeState(next); err != nil {
		return fmt.Errorf("cannot write the guest's state: %w", err)
	}
	g.state = next
	return nil
}

func (s *State) setReasons(reasons map[repo.Digest]Reason) {
	for i := range s.Packages {
		if r := reasons[s.Packages[i].Ref.ID]; r != "" {
			s.Packages[i].Reason = r
		}
	}
}

func (s *State) choose(method *share.Method) {
	if method != nil {
		s.Method = *method
	}
}

func (g *Guest) failAll(w *work, err error, outcome *Outcome) {
	for i := range w.install {
		outcome.Failed = append(outcome.Failed, Failure{w.install[i].nevra(), err})
	}
	for _, old := range w.remove {
		outcome.Failed = append(outcome.Failed, Failure{old.NEVRA(), err})
	}
}

// released tells the nest what is no longer needed. The state is durable
// (G4); a nest that is down learns it with the next transaction.
func (g *Guest) released(ctx context.Context, change Change, outcome *Outcome) {
	hooks, ids := g.options.Hooks, g.state.IDs()
	if hooks.References != nil && (g.asked || g.told == nil || !slices.Equal(g.told, sorted(ids))) {
		if err := hooks.References(ctx, ids, g.used()); err != nil {
			outcome.Warnings = append(outcome.Warnings, fmt.Sprintf("the nest does not know yet what is installed: %v", err))
			return
		}
	}
	var gone []repo.Digest
	for _, list := range change.Replaces {
		gone = append(gone, list...)
	}
	gone = append(gone, change.Remove...)
	for i := range change.Install {
		gone = append(gone, change.Install[i].Ref.ID)
	}
	gone = slices.DeleteFunc(gone, func(id repo.Digest) bool { return contains(ids, id) })
	if hooks.Detach != nil && len(gone) > 0 {
		if err := hooks.Detach(ctx, gone, false); err != nil {
			g.log.Warn("cannot detach layers", "err", err)
		}
	}
}

// unsee has layers and trees taken out of the view that nothing in the guest
// is made of any more: they were for private files or copies, or before a
// conversion.
func (g *Guest) unsee(ctx context.Context, base *State) {
	if base.Environment != nil && g.state.Environment == nil && g.options.Hooks.Environment != nil {
		if _, err := g.options.Hooks.Environment(ctx, EnvironmentRequest{}); err != nil {
			g.log.Warn("cannot detach an environment that is not used", "err", err)
		}
	}
	if g.options.Hooks.Detach == nil {
		return
	}
	var unused []repo.Digest
	for i := range g.state.Packages {
		p := &g.state.Packages[i]
		before := base.Find(p.Ref.ID)
		seen := before != nil && before.Placed.NeedsView() || contains(g.seen, p.Ref.ID) || g.state.sees(p.Ref.ID)
		if seen && !p.Placed.NeedsView() {
			unused = append(unused, p.Ref.ID)
		}
	}
	if len(unused) == 0 {
		return
	}
	if err := g.options.Hooks.Detach(ctx, unused, true); err != nil {
		g.log.Warn("cannot detach layers that are not used", "err", err)
	}
}

// sees reports whether a layer is in the view beside the environment's trees.
func (s *State) sees(id repo.Digest) bool {
	if s.Environment == nil || len(s.Environment.Trees) == 0 {
		return false
	}
	_, err := os.Lstat(filepath.Join(filepath.Dir(s.Environment.Trees[0]), id.Hex()))
	return err == nil
}

// attempt plans what is left and carries it out until it is done or a package
// fails. It returns what is left then.
func (g *Guest) attempt(ctx context.Context, w *work, outcome *Outcome) (*work, error) {
	if err := ctx.Err(); err != nil {
		return w, err
	}
	views, err := g.views(ctx, w)
	if err != nil {
		return w, err
	}
	r, err := g.plan(ctx, w, views)
	if err != nil {
		g.giveBack(ctx, w)
		return w, err
	}
	r.outcome = outcome
	if len(r.journal.Plan.Elements) == 0 && len(r.journal.Steps) == 0 {
		return &work{}, nil // it is settled already
	}
	if err := g.writeJournal(&r.journal); err != nil {
		// The journal may be there all the same: it undoes nothing.
		err = errors.Join(err, g.dropJournal())
		g.giveBack(ctx, w)
		return w, fmt.Errorf("cannot begin: %w", err)
	}
	if err := r.execute(ctx); err != nil {
		if r.begun && errors.Is(err, share.ErrNoMounter) {
			return w, fmt.Errorf("cannot finish, the next command goes on: %w", err)
		}
		if undo := r.undo(context.WithoutCancel(ctx)); undo != nil {
			return w, errors.Join(err, undo) // the next command needs what the nest has for that
		}
		g.giveBack(ctx, w)
		return w, err
	}
	if err := r.commit(ctx); err != nil {
		return w, err
	}
	return r.rest(w), nil
}

// views has the layers of what comes attached, once the nest knows that they
// are in use (G4).
func (g *Guest) views(ctx context.Context, w *work) (map[repo.Digest]string, error) {
	views := map[repo.Digest]string{}
	if w.method == share.Overlay {
		if err := g.announce(ctx, w); err != nil {
			return nil, err
		}
		return g.attach(ctx, w.reinstalled(g.state), nil)
	}
	var ids []repo.Digest
	for i := range w.install {
		p := &w.install[i]
		if p.LayerPath != "" {
			views[p.Ref.ID] = p.LayerPath
		} else {
			ids = append(ids, p.Ref.ID)
		}
	}
	if len(ids) == 0 {
		return views, nil
	}
	g.told = nil
	attached, err := g.attach(ctx, ids, g.state.IDs())
	if err != nil {
		return nil, err
	}
	g.told = sorted(w.refs(g.state))
	for id, view := range attached {
		views[id] = view
	}
	return views, nil
}

func sorted(ids []repo.Digest) []repo.Digest {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b repo.Digest) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// giveBack tells the nest that nothing came of it.
func (g *Guest) giveBack(ctx context.Context, w *work) {
	ctx = context.WithoutCancel(ctx)
	hooks := g.options.Hooks
	var ids []repo.Digest
	for i := range w.install {
		if p := &w.install[i]; p.LayerPath == "" && g.state.Find(p.Ref.ID) == nil {
			ids = append(ids, p.Ref.ID)
		}
	}
	if len(ids) == 0 && !g.asked {
		return
	}
	if hooks.Detach != nil && len(ids) > 0 {
		if err := hooks.Detach(ctx, ids, false); err != nil {
			g.log.Warn("cannot detach layers", "err", err)
		}
	}
	if hooks.References != nil {
		g.told = nil
		if err := hooks.References(ctx, g.state.IDs(), g.used()); err != nil {
			g.log.Warn("cannot send references", "err", err)
		}
	}
}

// run is one journal being carried out, by Run or by recovery.
type run struct {
	g        *Guest
	journal  journal
	base     *State
	views    map[repo.Digest]string
	progress progress
	begun    bool // the progress file exists: nothing is undone any more
	outcome  *Outcome
	failed   bool // a package has failed: what is left is planned again
}

func (g *Guest) plan(ctx context.Context, w *work, views map[repo.Digest]string) (*run, error) {
	g.tell(Event{Step: StepPlan})
	serial := g.state.Serial + 1
	change := w.change(g.state, views, strconv.FormatInt(serial, 10))
	plan, recipes, err := g.makePlan(ctx, w, &change)
	if err != nil {
		return nil, err
	}
	steps, err := g.order(ctx, w, change.Add)
	if err != nil {
		return nil, err
	}
	if w.settle && len(plan.Elements) > 0 {
		steps = []step{{Kind: removeStep, Name: "the environment"}}
	}
	r := &run{g: g, base: g.state, views: views, progress: progress{Serial: serial},
		journal: journal{Format: journalFormat, Serial: serial, Plan: *plan, Steps: steps, Reasons: w.reasons, Choice: w.choice,
			Add: []Installed{}, Environments: recipes, Replaced: w.allReplaced()}}
	for i := range w.install {
		r.journal.Add = append(r.journal.Add, g.entry(&w.install[i], plan.Elements[i].Placed))
	}
	for i := range r.journal.Steps {
		s := &r.journal.Steps[i]
		if s.Kind == removeStep {
			s.Element = slices.IndexFunc(plan.Elements, func(e share.Element) bool { return e.Remove && e.ID == s.ID })
		}
	}
	return r, r.attachMore(ctx, plan.Needs())
}

// attachMore has the layers attached that are not yet, such as that of an
// installed package whose directory is taken apart.
func (r *run) attachMore(ctx context.Context, ids []repo.Digest) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id repo.Digest) bool { return r.views[id] != "" })
	more, err := r.g.attach(ctx, ids, nil)
	for id, view := range more {
		r.views[id] = view
	}
	return err
}

// execute does the steps that are left. An error means that all is to be
// undone; once the transaction has begun there is none but
// [share.ErrNoMounter], by which it is interrupted as by a crash.
func (r *run) execute(ctx context.Context) error {
	for r.progress.Done < len(r.journal.Steps) && !r.failed {
		n := r.progress.Done
		s := &r.journal.Steps[n]
		if slices.Contains(r.progress.Failed, s.ID) {
			r.progress.Skipped = append(r.progress.Skipped, n)
			r.progress.Done++
			continue
		}
		if err := r.begin(s); err != nil {
			return err
		}
		if err := r.step(ctx, s); err != nil {
			return err
		}
		r.progress.Done++
	}
	return nil
}

// begin makes durable how far the transaction is, before a scriptlet runs or
// something is removed.
func (r *run) begin(s *step) error {
	if s.Kind == placeStep || s.Kind == removeStep && r.begun {
		return nil
	}
	if err := r.g.writeProgress(&r.progress); err != nil {
		if !r.begun {
			// Whether it is durable is not known: it must not be.
			return errors.Join(err, r.g.kept.progress.Delete())
		}
		r.warn("cannot write how far the transaction is: %v", err)
	}
	r.begun = true
	return nil
}

// step does one step. It returns an error only while all can be undone, or as
// execute does.
func (r *run) step(ctx context.Context, s *step) error {
	r.g.tell(s.event())
	switch s.Kind {
	case placeStep:
		return r.place(ctx, s)
	case removeStep:
		return r.remove(ctx, s)
	case scriptStep:
		err := r.g.runScript(ctx, s)
		switch {
		case err == nil:
		case decides(s.Phase) && !r.superseded(s):
			r.fail(s, err)
		default:
			r.warn("%v", err)
		}
	}
	return nil
}

// place places a package. Once the transaction has begun, one that fails is
// left as it was.
func (r *run) place(ctx context.Context, s *step) error {
	if r.begun {
		ctx = context.WithoutCancel(ctx)
	}
	err := r.apply(ctx, s)
	if err != nil && (!r.begun || errors.Is(err, share.ErrNoMounter)) {
		return err
	}
	if err != nil {
		r.fail(s, errors.Join(err, r.undoElement(ctx, s.Element)))
	}
	return nil
}

// remove takes a package's files away. What can not be removed is left
// behind with a warning, as rpm does: the package is gone all the same.
func (r *run) remove(ctx context.Context, s *step) error {
	ctx = context.WithoutCancel(ctx)
	err := r.apply(ctx, s)
	if err != nil {
		err = r.apply(ctx, s) // what failed once may have been done
	}
	if errors.Is(err, share.ErrNoMounter) {
		return err
	}
	if err == nil {
		return nil
	}
	r.progress.Left = append(r.progress.Left, r.progress.Done)
	if r.journal.Plan.Elements[s.Element].Environment != nil {
		r.warn("the files of %s are still to be seen, until the next command has exchanged the environment: %v", s.Name, err)
	} else {
		r.warn("%s has left something behind: %v", s.Name, err)
	}
	return nil
}

// superseded reports whether a step belongs to a package whose files have
// gone with the environment in which its successor came: it can not stay.
func (r *run) superseded(s *step) bool {
	return r.journal.Plan.Method == share.Overlay && contains(r.journal.Replaced, s.ID)
}

func (r *run) apply(ctx context.Context, s *step) error {
	warnings, err := r.journal.Plan.Apply(ctx, r.g.root, s.Element, r.views)
	for _, text := range warnings {
		r.warn("%s", text)
	}
	return err
}

// fail skips the package's further steps. If it was to come, what is left is
// planned again without it; if it was to go, it stays. With overlays the rest
// is planned again in both cases, for what stays is in the environment.
func (r *run) fail(s *step, err error) {
	r.progress.Failed = append(r.progress.Failed, s.ID)
	r.progress.Skipped = append(r.progress.Skipped, r.progress.Done)
	r.outcome.Failed = append(r.outcome.Failed, Failure{r.nevra(s.ID), err})
	coming := slices.ContainsFunc(r.journal.Add, func(p Installed) bool { return p.Ref.ID == s.ID })
	r.failed = r.journal.Plan.Method == share.Overlay ||
		coming && (s.Kind == placeStep || !goes(s.Phase) && s.Kind == scriptStep)
}

func (r *run) nevra(id repo.Digest) repo.NEVRA {
	for i := range r.journal.Add {
		if r.journal.Add[i].Ref.ID == id {
			return r.journal.Add[i].NEVRA()
		}
	}
	if old := r.base.Find(id); old != nil {
		return old.NEVRA()
	}
	return repo.NEVRA{}
}

func (r *run) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.outcome.Warnings = append(r.outcome.Warnings, text)
	r.g.tell(Event{Step: StepWarning, Text: text})
}

func (g *Guest) tell(e Event) {
	if g.options.Hooks.Progress != nil {
		g.options.Hooks.Progress(e)
	}
}

func (s *step) event() Event {
	e := Event{Package: s.Name, Phase: s.Phase}
	switch s.Kind {
	case placeStep:
		e.Step = StepPlace
	case removeStep:
		e.Step = StepRemove
	case scriptStep:
		e.Step = StepScriptlet
	}
	return e
}

func (g *Guest) runScript(ctx context.Context, s *step) error {
	if err := g.options.Disk.MkdirAll(g.path(scratchName), 0o700); err != nil {
		return err
	}
	return g.runner.Run(ctx, scriptlet.Call{Package: s.Name, Phase: s.Phase, Interpreter: s.Interpreter,
		Script: s.Script, Args: s.Args, Input: s.Input})
}
