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
	guest, err := findGuest(ctx, home, c.Name)
	if err != nil {
		return err
	}
	return c.show(streams, home, guest, c.JSON)
}

// findGuest asks the running daemon for a guest.
func findGuest(ctx context.Context, home *home, name string) (*api.Guest, error) {
	operator, err := home.operator()
	if err != nil {
		return nil, err
	}
	defer operator.Close()
	guests, err := operator.Guests(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(guests, func(g api.Guest) bool { return g.Name == name })
	if i < 0 {
		return nil, &program.Error{Status: exitNotFound, Err: fmt.Errorf("cannot find guest %s: there is none", name),
			Hint: "'nestd guest list' shows those there are."}
	}
	return &guests[i], nil
}
