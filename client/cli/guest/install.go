package guest

import (
	"context"

	"stork/client/change"
	"stork/client/solve"
	"stork/repo/program"
)

// solveFlags are what commands that bring packages take.
type solveFlags struct {
	AllowErasing    bool `help:"Let installed packages go that are in the way."`
	AllowPublishers bool `help:"Let an upgrade come from another publisher."`
	NoWeak          bool `help:"Leave out what is only recommended."`
	Best            bool `help:"Fail rather than take an older version than the newest."`
}

func (f solveFlags) flags() change.Flags {
	return change.Flags{AllowErasing: f.AllowErasing, AllowPublishers: f.AllowPublishers, NoWeak: f.NoWeak, Best: f.Best}
}

type installCmd struct {
	changeFlags
	solveFlags
	methodFlag
	Reinstall      bool     `help:"Install again what is installed already."`
	AllowDowngrade bool     `help:"Let installed packages go to an older version."`
	Packages       []string `arg:"" name:"package" help:"pkg, pkg=1.2, 'pkg>=1.2-3', pkg.arch, a pattern, /a/path or a capability."`
}

// Run implements the command.
func (c *installCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	action := solve.Install
	if c.Reinstall {
		action = solve.Reinstall
	}
	list, err := jobs(action, c.Packages)
	if err != nil {
		return err
	}
	flags := c.flags()
	flags.AllowDowngrade = c.AllowDowngrade
	return s.runChange(ctx, list, flags, c.changeFlags, how{needsCatalog: true, choice: c.choice()})
}
