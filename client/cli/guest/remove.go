package guest

import (
	"context"

	"stork/client/change"
	"stork/client/solve"
	"stork/repo/program"
)

type removeCmd struct {
	changeFlags
	AllowErasing bool     `help:"Also remove what needs these packages."`
	Packages     []string `arg:"" name:"package" help:"Installed packages."`
}

// Run implements the command. It needs neither repository nor policy: what
// an owner no longer trusts must be removable.
func (c *removeCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	list, err := jobs(solve.Remove, c.Packages)
	if err != nil {
		return err
	}
	return s.runChange(ctx, list, change.Flags{AllowErasing: c.AllowErasing}, c.changeFlags, how{})
}
