package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/client/change"
	"stork/client/cli/show"
	"stork/client/share"
	"stork/client/transaction"
	"stork/repo"
	"stork/repo/program"
)

// autoMethod stands for no share method in particular.
const autoMethod = "auto"

// methodFlag is what commands that bring packages take.
type methodFlag struct {
	Method string `help:"How this guest's packages are shared from now on: auto, bind, overlay, symlink or copy." enum:"auto,bind,overlay,symlink,copy," default:""`
}

// choice is what the user said, nil if nothing.
func (f methodFlag) choice() *share.Method {
	if f.Method == "" {
		return nil
	}
	return chosen(f.Method)
}

func chosen(name string) *share.Method {
	m := share.Method(name)
	if name == autoMethod {
		m = ""
	}
	return &m
}

type methodCmd struct {
	changeFlags
	Method string `arg:"" optional:"" enum:"auto,bind,overlay,symlink,copy," default:"" help:"auto, bind, overlay, symlink or copy; none: show it."`
}

// sharingReport is how a guest's packages are shared.
type sharingReport struct {
	Method      share.Method       `json:"method,omitempty"` // empty: nothing is shared
	Choice      string             `json:"choice"`           // of the guest's owner
	Mounts      int                `json:"mounts"`
	Budget      int                `json:"budget"` // of mounts, with bind
	Environment *environmentReport `json:"environment,omitempty"`
}

type environmentReport struct {
	ID    repo.Digest `json:"id"`
	Trees []string    `json:"trees"`
	Roots []string    `json:"roots"`
	Upper string      `json:"upper,omitempty"`
}

func sharingOf(state *transaction.State) sharingReport {
	r := sharingReport{Method: state.Sharing(), Choice: methodName(state.Method), Mounts: state.Mounts(), Budget: share.DefaultMounts}
	if r.Method == "" && len(state.Packages) > 0 {
		r.Method = share.Copy
	}
	if e := state.Environment; e != nil {
		r.Environment = &environmentReport{e.ID, e.Trees, e.Roots, e.Upper}
	}
	return r
}

func methodName(m share.Method) string {
	if m == "" {
		return autoMethod
	}
	return string(m)
}

// line says it in a few words.
func (r *sharingReport) line() string {
	text := string(r.Method)
	if text == "" {
		text = "nothing is installed"
	}
	if r.Choice == autoMethod || r.Choice != string(r.Method) {
		text += " (chosen: " + r.Choice + ")"
	}
	if r.Mounts > 0 {
		text += ", " + show.Count(r.Mounts, "mount")
	}
	return text
}

func (r *sharingReport) print(out program.Streams) {
	fmt.Fprintf(out.Out, "%-12s %s\n", "sharing", r.line())
	if e := r.Environment; e != nil {
		fmt.Fprintf(out.Out, "%-12s %s, %s\n", "environment", e.ID, show.Count(len(e.Trees), "tree"))
	}
}

// Run implements the command.
func (c *methodCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	if c.Method != "" {
		return s.convert(ctx, *chosen(c.Method), c.changeFlags)
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	report := sharingOf(state)
	if c.JSON {
		return streams.JSON(report)
	}
	report.print(streams)
	return nil
}

// conversionResult is what --json prints.
type conversionResult struct {
	DryRun  bool               `json:"dry_run"`
	Plan    *change.Conversion `json:"plan"`
	Seconds float64            `json:"seconds"`
}

// convert plans, shows, asks and executes.
func (s *session) convert(ctx context.Context, choice share.Method, f changeFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	started := s.env.Now()
	guest, err := s.guest(ctx, f.DryRun, nil)
	if err != nil {
		return err
	}
	defer guest.Close()
	g := &change.Guest{Transaction: guest, Arch: repo.HostArch(), Root: s.g.Sysroot}
	if g.Nest, err = s.converter(); err != nil {
		return err
	}
	plan, err := g.PlanMethod(choice)
	if err != nil {
		return err
	}
	if !f.JSON && !f.Quiet || !f.Yes && !f.DryRun && plan.To != "" {
		showConversion(s.streams, plan)
	}
	if !f.DryRun {
		if err := s.carryOut(ctx, g, plan, f); err != nil {
			return err
		}
	}
	took := s.since(started)
	if f.JSON {
		return s.streams.JSON(conversionResult{f.DryRun, plan, took.Seconds()})
	}
	if !f.DryRun && !f.Quiet && plan.To != "" {
		fmt.Fprintf(s.streams.Out, "Converted %s in %s.\n", show.Count(len(plan.Packages), "package"), took.Round(time.Millisecond))
	}
	return nil
}

func (s *session) carryOut(ctx context.Context, g *change.Guest, plan *change.Conversion, f changeFlags) error {
	if !f.Yes && plan.To != "" {
		yes, err := s.confirm("Go on?")
		if err != nil {
			return err
		}
		if !yes {
			return &program.Error{Status: program.Failed, Err: errors.New("nothing was changed")}
		}
	}
	outcome, err := g.ExecuteMethod(ctx, plan)
	if err != nil {
		return err
	}
	for _, w := range outcome.Warnings {
		fmt.Fprintln(s.streams.Err, "Warning:", program.Line(w))
	}
	return nil
}

// converter is where the layers of what is installed come from: the nest, or
// the guest itself, which then can only copy.
func (s *session) converter() (change.Nest, error) {
	if s.hasNest() {
		return s.nest(), nil
	}
	p, err := s.pins()
	if err != nil {
		return nil, err
	}
	return s.origin(p)
}

func showConversion(out program.Streams, c *change.Conversion) {
	if c.To == "" {
		fmt.Fprintf(out.Out, "Packages are shared by %s from now on; there is nothing to convert.\n", methodName(c.Choice))
		return
	}
	from := string(c.From)
	if from == "" {
		from = string(share.Copy)
	}
	fmt.Fprintf(out.Out, "Convert from %s to %s: %s. The guest's own files stay.\n", from, c.To, show.Count(len(c.Packages), "package"))
}
