package guest

import (
	"context"

	"stork/nestd/api"
	"stork/repo/program"
)

type whatrequiresCmd struct {
	JSON       bool   `name:"json" help:"Print JSON."`
	Capability string `arg:"" help:"A name, 'name = version' or a path."`
}

// Run implements the command.
func (c *whatrequiresCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	return s.queryCapability(ctx, api.ByRequires, c.Capability, requires, c.JSON)
}
