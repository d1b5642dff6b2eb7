package change

import (
	"context"
	"errors"
	"fmt"

	"stork/client/share"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// Conversion is what placing all packages of a guest by another share method
// would do. Its JSON is what `--json` prints.
type Conversion struct {
	Choice   share.Method `json:"choice,omitempty"` // of the guest's owner; empty: auto
	From     share.Method `json:"from,omitempty"`   // empty: nothing is shared
	To       share.Method `json:"to,omitempty"`     // empty: nothing is placed anew
	Packages []string     `json:"packages"`         // what is placed anew
}

// AbleError says that a guest can not use a share method.
type AbleError struct {
	Method share.Method
	Why    string
}

// Error implements error.
func (e *AbleError) Error() string {
	return fmt.Sprintf("cannot share packages by %s: %s", e.Method, e.Why)
}

// Reasons of an AbleError, for people.
const (
	whyAlone   = "there is no nest to share with"
	whyMounts  = "the guest may not mount (it has no CAP_SYS_ADMIN)"
	whyNothing = "the guest can not mount overlays"
)

// able refuses a method that the guest can not use.
func (g *Guest) able(m share.Method) error {
	if _, alone := g.Nest.(Alone); alone && m != share.Copy {
		return &AbleError{m, whyAlone}
	}
	switch m {
	case share.Bind:
		if !g.Transaction.MayMount() {
			return &AbleError{m, whyMounts}
		}
	case share.Overlay:
		means, err := g.Transaction.Means()
		if err == nil && !means.Overlay {
			err = &AbleError{m, orElse(means.Why, whyNothing)}
		}
		return err
	}
	return nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// PlanMethod finds out what it takes that choice is the guest's share method.
// With an empty choice nothing is converted: what is there is one that auto
// may have come to.
func (g *Guest) PlanMethod(choice share.Method) (*Conversion, error) {
	state := g.Transaction.State()
	c := &Conversion{Choice: choice, From: state.Sharing(), Packages: []string{}}
	if choice == "" {
		return c, nil
	}
	if err := g.able(choice); err != nil {
		return nil, err
	}
	for i := range state.Packages {
		if state.Packages[i].Placed.Method != choice {
			c.To = choice
		}
	}
	for i := range state.Packages {
		if c.To != "" {
			c.Packages = append(c.Packages, state.Packages[i].NEVRA().String())
		}
	}
	return c, nil
}

// ExecuteMethod carries out a conversion of the same run.
func (g *Guest) ExecuteMethod(ctx context.Context, c *Conversion) (*transaction.Outcome, error) {
	if c.To != "" {
		return g.convert(ctx, c.To, &c.Choice)
	}
	return g.Transaction.Run(ctx, transaction.Change{Choice: &c.Choice})
}

// convert places all that is installed anew.
func (g *Guest) convert(ctx context.Context, to share.Method, choice *share.Method) (*transaction.Outcome, error) {
	refs := g.Transaction.State().Refs()
	if len(refs) == 0 {
		return &transaction.Outcome{}, nil
	}
	if _, alone := g.Nest.(Alone); alone || g.Nest == nil {
		return nil, &AbleError{to, whyAlone}
	}
	list, err := g.Nest.Prepare(ctx, api.PrepareRequest{Packages: refs}, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot convert packages: %w", err)
	}
	private := map[repo.Digest][]repo.File{}
	for i := range list {
		private[list[i].ID] = list[i].Private
	}
	c := transaction.Change{Method: to, Convert: true, Choice: choice}
	for _, ref := range refs {
		c.Install = append(c.Install, transaction.Package{Ref: ref, Private: private[ref.ID]})
	}
	return g.Transaction.Run(ctx, c)
}

// Words for people about the choice of a method.
const (
	copied = "this guest may not mount (it has no CAP_SYS_ADMIN): what it installs is copied into it, and shared with nobody; `stork method symlink` shares it"
	linked = "this guest may not mount (it has no CAP_SYS_ADMIN): what it installs is symlinks to the shared files"
)

// chooses reports whether the owner wants another method than so far.
func (g *Guest) chooses() bool {
	return g.Choice != nil && *g.Choice != g.Transaction.State().Method
}

// choose picks the method for what comes. What is there is converted first if
// the owner wants that, or if there would be too many mounts.
func (g *Guest) choose(ctx context.Context, p *Plan) error {
	state := g.Transaction.State()
	have, want := state.Sharing(), state.Method
	if g.Choice != nil {
		want = *g.Choice
	}
	if _, alone := g.Nest.(Alone); alone {
		p.Method = share.Copy
		if want == "" {
			return nil
		}
		return g.able(want)
	}
	if want != "" {
		p.Method = want
		if have != "" && have != want {
			p.Converted = len(state.Packages)
		}
		if have == share.Overlay && want == have {
			return nil // it has them
		}
		return g.able(want)
	}
	if have == share.Overlay || have == share.Symlink {
		p.Method = have
		return nil
	}
	switch p.Method = share.Bind; {
	case !g.Transaction.MayMount() && have == "":
		p.Method, p.Why = share.Symlink, linked
	case !g.Transaction.MayMount():
		p.Method, p.Why = share.Copy, copied
	default:
		return g.budget(ctx, p, state)
	}
	return nil
}

// run hands the change to the transaction: mounts of the nest's layers,
// overlays or symlinks; or, without a nest, copies of layers that are dropped
// afterwards.
func (g *Guest) run(ctx context.Context, p *Plan, change transaction.Change) (*transaction.Outcome, error) {
	if alone, ok := g.Nest.(Alone); ok {
		return g.runAlone(ctx, alone, change)
	}
	said := p.Why
	done, err := g.share(ctx, p, change)
	var over *transaction.BudgetError
	if errors.As(err, &over) {
		if err := g.overlays(p, over.Mounts); err != nil {
			return nil, err
		}
		done, err = g.share(ctx, p, change)
	}
	if err == nil && p.Why != said && len(done.Installed) > 0 {
		done.Warnings = append(done.Warnings, p.Why)
	}
	return done, err
}

func (g *Guest) share(ctx context.Context, p *Plan, change transaction.Change) (*transaction.Outcome, error) {
	if p.Converted > 0 {
		if _, err := g.convert(ctx, p.Method, g.Choice); err != nil {
			return nil, err
		}
	}
	change.Method, change.Budget, change.Choice = p.Method, p.budget, g.Choice
	return g.Transaction.Run(ctx, change)
}
