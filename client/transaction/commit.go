package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"stork/client/share"
	"stork/repo"
)

// commit makes the outcome of the steps that are done the guest's state, then
// removes what an undo would have needed (G3).
func (r *run) commit(ctx context.Context) error {
	g := r.g
	g.tell(Event{Step: StepCommit})
	next := r.state(r.progress.Done)
	next.Serial = r.journal.Serial
	next.setReasons(r.journal.Reasons)
	next.choose(r.journal.Choice)
	if err := g.writeState(next); err != nil {
		return r.commitFailed(ctx, err)
	}
	r.count(next)
	g.state = next
	if err := g.cleanUp(&r.journal); err != nil {
		r.warn("cannot clear up, the next command will: %v", err)
	}
	return nil
}

// commitFailed decides by what is on the disk, for the error may have come
// after the write.
func (r *run) commitFailed(ctx context.Context, err error) error {
	err = fmt.Errorf("cannot write the guest's state: %w", err)
	on, readErr := r.g.readState()
	switch {
	case readErr != nil:
		return errors.Join(err, readErr)
	case on.Serial == r.journal.Serial:
		r.count(on)
		r.g.state = on
		r.warn("%v", err)
		return nil
	case r.begun:
		return fmt.Errorf("%w; the next command finishes it", err)
	}
	err = errors.Join(err, r.undo(context.WithoutCancel(ctx)))
	return err
}

// cleanUp removes the kept files and the journal.
func (g *Guest) cleanUp(j *journal) error {
	if err := j.Plan.Finish(g.root); err != nil {
		return err
	}
	return g.dropJournal()
}

// state returns what is installed after the first n steps.
func (r *run) state(n int) *State {
	s := r.base.clone()
	plan := &r.journal.Plan
	for i := range n {
		st := &r.journal.Steps[i]
		if slices.Contains(r.progress.Skipped, i) {
			continue
		}
		switch st.Kind {
		case placeStep:
			s.add(&r.journal.Add[st.Element], &plan.Elements[st.Element])
			s.mounted(&plan.Elements[st.Element])
		case removeStep:
			if !slices.ContainsFunc(r.journal.Add, func(p Installed) bool { return p.Ref.ID == st.ID }) {
				s.drop(st.ID)
			}
			if !slices.Contains(r.progress.Left, i) {
				s.mounted(&plan.Elements[st.Element])
			}
		}
	}
	s.made(r.journal.Environments)
	return s
}

// add puts a package into the state. Those that it takes paths from are still
// there, without these paths, until they are removed themselves.
func (s *State) add(p *Installed, e *share.Element) {
	s.drop(p.Ref.ID)
	if len(e.Shifts)+len(e.Takes) > 0 {
		s.giveWay(p, e)
	}
	// Behind those of its name. Packages come by the hundred, and are large.
	n := sort.Search(len(s.Packages), func(i int) bool { return s.Packages[i].Ref.Name > p.Ref.Name })
	s.Packages = slices.Insert(s.Packages, n, *p)
}

// drop takes a package out of the state.
func (s *State) drop(id repo.Digest) {
	for i := range s.Packages {
		if s.Packages[i].Ref.ID == id {
			s.Packages = slices.Delete(s.Packages, i, i+1)
			return
		}
	}
}

// giveWay changes how packages are placed that are in the way of another.
func (s *State) giveWay(p *Installed, e *share.Element) {
	for i := range s.Packages {
		have := &s.Packages[i]
		for j := range e.Shifts {
			if e.Shifts[j].ID == have.Ref.ID {
				have.Placed = e.Shifts[j].Apply(have.Placed)
			}
		}
		if slices.Contains(e.Takes, have.Ref.ID) {
			have.Placed = have.Placed.Without(&p.Placed)
		}
	}
}

// count tells what has become of the packages.
func (r *run) count(next *State) {
	for i := range r.journal.Add {
		p := &r.journal.Add[i]
		if next.Find(p.Ref.ID) != nil && !slices.Contains(r.progress.Failed, p.Ref.ID) {
			r.outcome.Installed = append(r.outcome.Installed, p.NEVRA())
		}
	}
	for i := range r.base.Packages {
		p := &r.base.Packages[i]
		if next.Find(p.Ref.ID) == nil {
			r.outcome.Removed = append(r.outcome.Removed, p.NEVRA())
		}
	}
}

// undo takes back everything, last things first, and ends the transaction.
func (r *run) undo(ctx context.Context) error {
	if err := r.g.reattach(ctx, &r.journal); err != nil {
		r.g.log.Warn("cannot attach environments for an undo", "err", err)
	}
	if err := r.attachMore(ctx, r.journal.Plan.UndoNeeds()); err != nil {
		r.g.log.Warn("cannot attach layers for an undo", "err", err)
	}
	for i := len(r.journal.Add) - 1; i >= 0; i-- {
		if err := r.journal.Plan.Undo(ctx, r.g.root, i, r.views); err != nil {
			return fmt.Errorf("cannot undo, the next command tries again: %w", err)
		}
	}
	return errors.Join(r.g.kept.progress.Delete(), r.g.kept.journal.Delete())
}

func (r *run) undoElement(ctx context.Context, i int) error {
	if err := r.attachMore(ctx, r.journal.Plan.UndoNeeds()); err != nil {
		r.g.log.Warn("cannot attach layers for an undo", "err", err)
	}
	return r.journal.Plan.Undo(ctx, r.g.root, i, r.views)
}

// rest returns the work that a failed package has left undone.
func (r *run) rest(w *work) *work {
	left := &work{method: w.method, budget: w.budget, replaces: w.replaces, reasons: w.reasons, ran: w.ran}
	if !r.failed {
		return left
	}
	done := r.progress.Done
	for i := range done {
		if s := &r.journal.Steps[i]; s.Kind == scriptStep {
			left.ran[ranKey{s.ID, s.Phase}] = true
		}
	}
	over := func(id repo.Digest) bool {
		if slices.Contains(r.progress.Failed, id) {
			return true
		}
		for _, s := range r.journal.Steps[:done] {
			if s.ID == id && s.Kind != scriptStep {
				return true
			}
		}
		return false
	}
	left.replaces = map[repo.Digest][]*Installed{}
	for i := range w.install {
		id := w.install[i].Ref.ID
		if !over(id) {
			left.install = append(left.install, w.install[i])
			left.replaces[id] = w.replaces[id]
		}
	}
	for _, old := range w.remove {
		if !over(old.Ref.ID) {
			left.remove = append(left.remove, old)
		}
	}
	for _, s := range r.journal.Steps[done:] {
		if s.Kind == scriptStep && (s.Phase == repo.PostTrans || s.Phase == repo.PostUnTran) && over(s.ID) &&
			!slices.Contains(r.progress.Failed, s.ID) {
			left.after = append(left.after, s)
		}
	}
	return left
}

// recover finishes or undoes what an earlier command left.
func (g *Guest) recover(ctx context.Context) error {
	j, err := g.readJournal()
	if err != nil || j == nil {
		return err
	}
	if j.Serial == g.state.Serial {
		return g.cleanUp(j) // committed (G3)
	}
	if j.Serial != g.state.Serial+1 {
		return fmt.Errorf("cannot recover: %s belongs to another state", g.path(journalName))
	}
	p, err := g.readProgress(j)
	if err != nil {
		return err
	}
	r := &run{g: g, journal: *j, base: g.state, views: map[repo.Digest]string{}, outcome: &Outcome{}, progress: progress{Serial: j.Serial}}
	if p == nil {
		g.log.Info("undoing an interrupted transaction")
		return r.undo(ctx)
	}
	r.progress, r.begun = *p, true
	return r.finish(ctx)
}

// finish carries an interrupted transaction on. Mounts may be gone with the
// guest's mount namespace, so they come back first.
func (r *run) finish(ctx context.Context) error {
	g := r.g
	g.log.Info("finishing an interrupted transaction")
	err := g.reattach(ctx, &r.journal)
	if err == nil {
		err = r.attachMore(ctx, r.journal.Plan.Needs())
	}
	if err != nil {
		return fmt.Errorf("cannot finish an interrupted transaction: %w", err)
	}
	if err := g.restore(ctx, r.state(r.progress.Done)); err != nil {
		g.log.Warn("cannot bring back mounts", "err", err)
	}
	if err := r.execute(ctx); err != nil {
		return fmt.Errorf("cannot finish an interrupted transaction: %w", err)
	}
	if err := r.commit(ctx); err != nil {
		return err
	}
	for _, f := range r.outcome.Failed {
		g.log.Warn("package failed", "pkg", f.Package.String(), "err", f.Err)
	}
	if err := g.settle(ctx, r.outcome); err != nil {
		g.log.Warn("cannot settle the environment, the next transaction will", "err", err)
	}
	return nil
}
