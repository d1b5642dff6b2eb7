package guest

import (
	"context"

	"stork/nestd/api"
	"stork/repo/program"
)

type searchCmd struct {
	JSON  bool     `name:"json" help:"Print JSON."`
	Words []string `arg:"" name:"word" help:"Words in the name or summary; case does not matter."`
}

// Run implements the command.
func (c *searchCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	return s.query(ctx, []api.Query{{Kind: api.ByText, Terms: c.Words}}, nil, c.JSON)
}
