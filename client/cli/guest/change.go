package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/client/change"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/repo"
	"stork/repo/program"
)

// changeFlags are what every command that changes the guest takes.
type changeFlags struct {
	Yes    bool `short:"y" help:"Do not ask."`
	DryRun bool `short:"n" help:"Only show what would be done."`
	JSON   bool `name:"json" help:"Print JSON. Asks nothing, so it needs -y or --dry-run."`
	Quiet  bool `short:"q" help:"Print nothing but errors."`
}

// changeResult is what --json prints.
type changeResult struct {
	DryRun  bool            `json:"dry_run"`
	Plan    *change.Plan    `json:"plan"`
	Outcome *change.Outcome `json:"outcome,omitempty"`
	Seconds float64         `json:"seconds"`
}

func (f changeFlags) check() error {
	if f.JSON && !f.Yes && !f.DryRun {
		return &program.Error{Status: program.Usage, Err: errors.New("--json asks no questions"), Hint: "Give -y to do it, or --dry-run to see it."}
	}
	return nil
}

// how says what one command's change is like.
type how struct {
	needsCatalog bool          // something may come
	choice       *share.Method // see [change.Guest]
}

// runChange plans, shows, asks and executes.
func (s *session) runChange(ctx context.Context, jobs []solve.Job, flags change.Flags, f changeFlags, h how) error {
	if err := f.check(); err != nil {
		return err
	}
	started := s.env.Now()
	s.installs = h.needsCatalog
	progress := newProgress(s.streams.Err, f.Quiet || f.JSON)
	defer progress.close()
	guest, err := s.guest(ctx, f.DryRun, progress.step)
	if err != nil {
		return err
	}
	defer guest.Close()
	system := s.system(guest.State())
	g := &change.Guest{System: system, Transaction: guest, Arch: repo.HostArch(),
		Root: s.g.Sysroot, Tell: !f.Yes, Choice: h.choice}
	if h.needsCatalog {
		if g.Catalog, err = s.catalog(ctx); err != nil {
			return err
		}
		g.Nest = s.host
	}
	plan, err := g.Plan(ctx, jobs, flags)
	if err != nil {
		return err
	}
	if done, err := s.agree(plan, f); done || err != nil {
		return s.finish(plan, nil, f, started, err)
	}
	progress.planned(plan)
	outcome, err := g.Execute(ctx, plan, progress.event)
	progress.close()
	if flushed := system.Flush(); err == nil && flushed != nil {
		fmt.Fprintln(s.streams.Err, "stork: cannot keep what was learnt of this guest:", flushed)
	}
	return s.finish(plan, outcome, f, started, err)
}

// agree shows the plan and asks; done means that there is nothing further to
// do.
func (s *session) agree(plan *change.Plan, f changeFlags) (done bool, err error) {
	if asks := !f.Yes && !f.DryRun && plan.Asks(); !f.JSON && (asks || !f.Quiet) {
		showPlan(s.streams, plan)
	}
	if plan.Idle() || f.DryRun {
		return true, nil
	}
	if f.Yes || !plan.Asks() {
		return false, nil
	}
	yes, err := s.confirm("Go on?")
	if err == nil && !yes {
		err = &program.Error{Status: program.Failed, Err: errors.New("nothing was changed")}
	}
	return false, err
}

// finish reports what was done, or why not.
func (s *session) finish(plan *change.Plan, outcome *change.Outcome, f changeFlags, started time.Time, err error) error {
	if err != nil {
		return err
	}
	took := s.since(started)
	if f.JSON {
		err = s.streams.JSON(changeResult{f.DryRun, plan, outcome, took.Seconds()})
	} else if outcome != nil && !f.Quiet {
		showOutcome(s.streams, outcome, took)
	}
	if err == nil && outcome != nil && len(outcome.Failed) > 0 {
		err = failedError(outcome)
	}
	return err
}

func failedError(outcome *change.Outcome) error {
	first := outcome.Failed[0]
	err := fmt.Errorf("cannot change %s: %s", first.Package, first.Error)
	if more := len(outcome.Failed) - 1; more > 0 {
		err = fmt.Errorf("%w (and %d more)", err, more)
	}
	return &program.Error{Status: exitScriptlet, Err: err, Hint: "That package is as it was before."}
}

// jobs makes a job of each spec.
func jobs(action solve.Action, specs []string) ([]solve.Job, error) {
	var list []solve.Job
	for _, text := range specs {
		spec, err := solve.ParseSpec(text)
		if err != nil {
			return nil, &program.Error{Status: program.Usage, Err: err}
		}
		list = append(list, solve.Job{Action: action, Spec: spec})
	}
	return list, nil
}

// state returns the state without a lock.
func (s *session) state(ctx context.Context) (*transaction.State, error) {
	guest, err := s.guest(ctx, true, nil)
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	return guest.State(), nil
}
