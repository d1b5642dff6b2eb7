package guest

import (
	"context"
	"fmt"

	"stork/client/solve"
	"stork/nestd/api"
	"stork/repo/program"
)

// TrustExplain is the command that says what policy makes of a package.
type TrustExplain struct {
	JSON    bool   `name:"json" help:"Print JSON."`
	Package string `arg:"" help:"A package, as for install."`
}

// verdict is what policy says of one package.
type verdict struct {
	Package   string `json:"package"`
	Publisher string `json:"publisher"`
	Allowed   bool   `json:"allowed"`
	Reason    string `json:"reason"`
}

// Run implements the command.
func (c *TrustExplain) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	spec, err := solve.ParseSpec(c.Package)
	if err != nil {
		return &program.Error{Status: program.Usage, Err: err}
	}
	books, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	found, err := books.Find(ctx, []api.Query{specQuery(spec)})
	if err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, a := range found {
		if spec.Matches(a.Package()) {
			verdicts = append(verdicts, verdict{a.Entry.NEVRA().String(), string(a.Ref.Publisher), true, a.Decision.Reason})
		}
	}
	refused, err := books.Refusals(ctx, c.Package)
	if err != nil {
		return err
	}
	for _, r := range refused {
		verdicts = append(verdicts, verdict{r.NEVRA().String(), string(r.Ref.Publisher), false, r.Reason})
	}
	if c.JSON {
		return streams.JSON(verdicts)
	}
	for _, v := range verdicts {
		word := "refused"
		if v.Allowed {
			word = "allowed"
		}
		fmt.Fprintf(streams.Out, "%s  %s from %s: %s\n", word, v.Package, v.Publisher, v.Reason)
	}
	for _, l := range books.Unlisted() {
		fmt.Fprintf(streams.Out, "left out: publisher %s: %s\n", l.Publisher, program.Line(l.Reason))
	}
	if len(verdicts) == 0 {
		return &program.Error{Status: ExitNotFound, Err: fmt.Errorf("no publisher that the policy names has %q", c.Package)}
	}
	return nil
}
