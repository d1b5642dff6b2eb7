package guest

import (
	"context"
	"errors"
	"fmt"

	"stork/client/cli/show"
	"stork/client/share"
	"stork/client/transaction"
	"stork/repo"
	"stork/repo/program"
)

type verifyCmd struct {
	JSON     bool        `name:"json" help:"Print JSON."`
	Packages []repo.Name `arg:"" optional:"" name:"package" help:"Installed packages; none: all."`
}

// problemLine is one difference, for --json.
type problemLine struct {
	Package string     `json:"package"`
	Path    string     `json:"path"`
	What    share.What `json:"what"`
	Config  bool       `json:"config,omitempty"`
	Detail  string     `json:"detail,omitempty"`
}

// Run implements the command. Configuration files that the owner changed are
// listed, but are no failure.
func (c *verifyCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	guest, err := s.guest(ctx, true, nil)
	if err != nil {
		return err
	}
	defer guest.Close()
	ids, err := namedIDs(guest.State(), c.Packages)
	if err != nil {
		return err
	}
	problems, err := guest.Verify(ctx, ids...)
	if err != nil {
		return err
	}
	lines, broken := problemLines(guest.State(), problems)
	if c.JSON {
		err = streams.JSON(lines)
	} else {
		for _, l := range lines {
			text := fmt.Sprintf("%-10s %s  (%s)", l.What, l.Path, l.Package)
			if l.Detail != "" {
				text += " " + l.Detail
			}
			fmt.Fprintln(streams.Out, program.Line(text))
		}
	}
	if err == nil && broken > 0 {
		err = &program.Error{Status: program.Failed, Err: fmt.Errorf("%s not as installed", show.Count(broken, "path")),
			Hint: "`stork mount` brings mounts back; `stork install --reinstall PACKAGE` brings the rest."}
	}
	return err
}

func problemLines(state *transaction.State, problems []share.Problem) (lines []problemLine, broken int) {
	lines = []problemLine{}
	for _, p := range problems {
		name := p.ID.Short()
		if p.ID.IsZero() {
			name = "environment"
		}
		if installed := state.Find(p.ID); installed != nil {
			name = installed.NEVRA().String()
		}
		lines = append(lines, problemLine{name, p.Path, p.What, p.Config, p.Detail})
		if !p.Config {
			broken++
		}
	}
	return lines, broken
}

// namedIDs finds installed packages by name.
func namedIDs(state *transaction.State, names []repo.Name) ([]repo.Digest, error) {
	var ids []repo.Digest
	for _, name := range names {
		found := state.Named(name)
		if len(found) == 0 {
			return nil, &program.Error{Status: ExitNotFound, Err: errors.New("no package " + string(name) + " is installed"), Hint: "`stork list` shows what is."}
		}
		for _, p := range found {
			ids = append(ids, p.Ref.ID)
		}
	}
	return ids, nil
}
