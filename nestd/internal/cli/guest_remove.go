package cli

import (
	"context"
	"fmt"

	"stork/nestd/api"
	"stork/repo/program"
)

type guestRemoveCommand struct {
	Name string `arg:"" help:"Name of the guest."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Run removes the guest.
func (c *guestRemoveCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	if err := operator.RemoveGuest(ctx, c.Name); err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(api.Empty{})
	}
	fmt.Fprintf(streams.Out, "Removed guest %s.\n", c.Name)
	return nil
}
