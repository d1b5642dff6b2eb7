package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/client/catalog"
	"stork/client/cli/show"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/program"
)

type statusCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// statusReport is what status shows.
type statusReport struct {
	Version      string             `json:"version"`
	Installed    int                `json:"installed"`
	Sharing      sharingReport      `json:"sharing"`
	Owner        repo.Digest        `json:"owner,omitzero"`
	Nest         *api.Status        `json:"nest,omitempty"`
	NestError    string             `json:"nest_error,omitempty"`
	Repositories []repositoryReport `json:"repositories"`
	TrustError   string             `json:"trust_error,omitempty"`
	LeftOut      []catalog.Unlisted `json:"left_out,omitempty"`
}

// repositoryReport is a repository that this guest has verified.
type repositoryReport struct {
	URL     string      `json:"url"`
	Root    repo.Digest `json:"root"`
	Version int64       `json:"version"`
	Expires time.Time   `json:"expires"`
}

// Run implements the command. It fails with the status of what is wrong, after
// it has shown everything.
func (c *statusCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	report := statusReport{Version: repo.Version, Installed: len(state.Packages), Sharing: sharingOf(state), Repositories: []repositoryReport{}}
	failed := report.askNest(ctx, s)
	books, err := s.catalog(ctx)
	if p, pinned := s.pins(); pinned == nil {
		report.Owner = p.Owner
	}
	if err != nil {
		report.TrustError = err.Error()
		failed = errors.Join(failed, err)
	} else {
		report.LeftOut = books.Unlisted()
		for _, r := range books.Served() {
			report.Repositories = append(report.Repositories, repositoryReport{r.Pin.URL, r.Pin.Root, r.Version, r.Expires})
		}
	}
	if c.JSON {
		return errors.Join(streams.JSON(report), failed)
	}
	report.print(streams, env.Now())
	return failed
}

// askNest fills in what the nest says, if there is one.
func (r *statusReport) askNest(ctx context.Context, s *session) error {
	if !s.hasNest() {
		return nil
	}
	status, err := s.nest().nest.Status(ctx)
	if err != nil {
		r.NestError = err.Error()
		return err
	}
	r.Nest = status
	return nil
}

func (r *statusReport) print(out program.Streams, now time.Time) {
	owner := "none is pinned yet"
	if !r.Owner.IsZero() {
		owner = r.Owner.String()
	}
	fmt.Fprintf(out.Out, "%-12s %s\n%-12s %s\n%-12s %s\n", "stork", r.Version, "installed", show.Count(r.Installed, "package"), "owner", owner)
	r.Sharing.print(out)
	switch {
	case r.Nest != nil:
		fmt.Fprintf(out.Out, "%-12s %s, known to it as %s\n", "nest", r.Nest.Nest, r.Nest.Guest)
	case r.NestError != "":
		fmt.Fprintf(out.Out, "%-12s down: %s\n", "nest", program.Line(r.NestError))
	default:
		fmt.Fprintf(out.Out, "%-12s none: this guest fetches for itself\n", "nest")
	}
	for _, l := range r.Repositories {
		fmt.Fprintf(out.Out, "%-12s %s, version %d, verified, valid for %s\n", "repository", l.URL, l.Version, l.Expires.Sub(now).Round(time.Minute))
	}
	if r.TrustError != "" {
		fmt.Fprintf(out.Out, "%-12s %s\n", "trust", program.Line(r.TrustError))
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(out.Out, "%-12s %s is left out: %s\n", "publisher", l.Publisher, program.Line(l.Reason))
	}
}
