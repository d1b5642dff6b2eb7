package guest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"stork/client/catalog"
	"stork/client/cli/show"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/program"
)

type listCmd struct {
	Available bool     `short:"a" help:"List what may be installed instead."`
	JSON      bool     `name:"json" help:"Print JSON."`
	Patterns  []string `arg:"" optional:"" name:"pattern" help:"Package names with * ? [..]."`
}

// listed is one line of the list.
type listed struct {
	Name      repo.Name          `json:"name"`
	Version   string             `json:"version"`
	Arch      repo.Arch          `json:"arch"`
	Publisher repo.Publisher     `json:"publisher"`
	ID        repo.Digest        `json:"id"`
	Installed bool               `json:"installed"`
	Reason    transaction.Reason `json:"reason,omitempty"`
	Time      *time.Time         `json:"time,omitempty"`
	Size      int64              `json:"size"`
	Summary   string             `json:"summary,omitempty"`
}

// Run implements the command.
func (c *listCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	for _, p := range c.Patterns {
		if _, err := path.Match(p, ""); err != nil {
			return &program.Error{Status: program.Usage, Err: fmt.Errorf("cannot understand pattern %q: %w", p, err)}
		}
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	list := installedLines(state, c.Patterns)
	if c.Available {
		if list, err = c.available(ctx, s, state); err != nil {
			return err
		}
	}
	if err := printList(streams, list, c.JSON); err != nil {
		return err
	}
	if len(list) == 0 && len(c.Patterns) > 0 {
		return &program.Error{Status: ExitNotFound, Err: errors.New("no package has such a name"), Hint: "`stork list --available` shows what may be installed."}
	}
	return nil
}

func (c *listCmd) available(ctx context.Context, s *session, state *transaction.State) ([]listed, error) {
	books, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	terms := c.Patterns
	if len(terms) == 0 {
		terms = []string{"*"}
	}
	found, err := books.Find(ctx, []api.Query{{Kind: api.ByGlob, Terms: terms}})
	if err != nil {
		return nil, err
	}
	return candidateLines(found, state), nil
}

func installedLines(state *transaction.State, patterns []string) []listed {
	list := []listed{}
	for i := range state.Packages {
		p := &state.Packages[i]
		if !matchesAny(patterns, string(p.Entry.Name)) {
			continue
		}
		when := time.Unix(p.Time, 0).UTC()
		list = append(list, listed{
			Name: p.Entry.Name, Version: p.Entry.EVR().String(), Arch: p.Entry.Arch, Publisher: p.Ref.Publisher,
			ID: p.Ref.ID, Installed: true, Reason: p.Reason, Time: &when, Size: p.Entry.InstalledSize, Summary: p.Entry.Summary,
		})
	}
	return list
}

func candidateLines(found []*catalog.Candidate, state *transaction.State) []listed {
	list := []listed{}
	for _, a := range found {
		list = append(list, listed{
			Name: a.Entry.Name, Version: a.Entry.EVR().String(), Arch: a.Entry.Arch, Publisher: a.Ref.Publisher,
			ID: a.Ref.ID, Installed: state.Find(a.Ref.ID) != nil, Size: a.Entry.InstalledSize, Summary: a.Entry.Summary,
		})
	}
	return list
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return len(patterns) == 0
}

func printList(out program.Streams, list []listed, asJSON bool) error {
	if asJSON {
		return out.JSON(list)
	}
	rows := make([][]string, len(list))
	for i, l := range list {
		mark := ""
		if l.Installed {
			mark = "installed"
			if l.Reason != "" {
				mark = string(l.Reason)
			}
		}
		rows[i] = []string{string(l.Name), l.Version, string(l.Arch), string(l.Publisher), show.Bytes(l.Size), mark, l.Summary}
	}
	return out.Table([]string{"name", "version", "arch", "publisher", "files", "", "summary"}, rows)
}
