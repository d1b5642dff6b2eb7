package cli

import (
	"context"
	"fmt"
	"slices"

	"stork/nestd/api"
	"stork/repo/program"
)

type guestShowCommand struct {
	Name string `arg:"" help:"Name of the guest."`
	runtimeFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows the guest.
func (c *guestShowCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	guests, err := operator.Guests(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(guests, func(g api.Guest) bool { return g.Name == c.Name })
	if i < 0 {
		return &program.Error{Status: exitNotFound, Err: fmt.Errorf("cannot show guest %s: there is none", c.Name),
			Hint: "'nestd guest list' shows those there are."}
	}
	return c.show(streams, &guests[i], c.JSON)
}
