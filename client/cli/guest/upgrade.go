package guest

import (
	"context"

	"stork/client/solve"
	"stork/repo/program"
)

type upgradeCmd struct {
	changeFlags
	solveFlags
	methodFlag
	Packages []string `arg:"" optional:"" name:"package" help:"Installed packages; none: all."`
}

// Run implements the command.
func (c *upgradeCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	list, err := jobs(solve.Upgrade, c.Packages)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		list = []solve.Job{{Action: solve.Upgrade}}
	}
	return s.runChange(ctx, list, c.flags(), c.changeFlags, how{needsCatalog: true, choice: c.choice()})
}
