package cli

import (
	"context"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/repo/program"
)

type whatrequiresCmd struct {
	JSON       bool   `name:"json" help:"Print JSON."`
	Capability string `arg:"" help:"A name, 'name = version' or a path."`
}

// Run implements the command.
func (c *whatrequiresCmd) Run(ctx context.Context, g *grammar, env *environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	wanted, err := repo.ParseCapability(c.Capability)
	if err != nil {
		return &program.Error{Status: program.Usage, Err: err}
	}
	fits := func(e *index.Entry) bool { return requires(e, wanted) }
	return s.query(ctx, []api.Query{{Kind: api.ByRequires, Terms: []string{wanted.Name}}}, fits, c.JSON)
}
