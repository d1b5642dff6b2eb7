package guest

import (
	"context"

	"stork/nestd/api"
	"stork/repo/program"
)

type providesCmd struct {
	JSON       bool   `name:"json" help:"Print JSON."`
	Capability string `arg:"" help:"A name, 'name >= version', or the path of a command or of a file in /etc."`
}

// Run implements the command.
func (c *providesCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	return s.queryCapability(ctx, api.ByCapability, c.Capability, provides, c.JSON)
}
