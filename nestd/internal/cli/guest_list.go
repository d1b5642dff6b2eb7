package cli

import (
	"context"
	"strconv"

	"stork/repo/program"
)

type guestListCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the guests.
func (c *guestListCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	guests, err := operator.Guests(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(guests)
	}
	var rows [][]string
	for _, g := range guests {
		userns := "own"
		if g.HostUserNS {
			userns = "host's"
		}
		mounts := "itself"
		if g.Placement {
			mounts = "nest"
		}
		rows = append(rows, []string{g.Name, strconv.Itoa(g.Packages), userns, mounts, g.Owner.Short(), g.Directory})
	}
	return streams.Table([]string{"GUEST", "PACKAGES", "USERNS", "MOUNTS BY", "OWNER", "DIRECTORY"}, rows)
}
