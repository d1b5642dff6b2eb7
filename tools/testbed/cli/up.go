package cli

import (
	"context"
	"fmt"

	"stork/repo/program"
	"stork/tools/testbed"
)

type upCommand struct {
	target
	Nests  int    `default:"1" help:"How many nests: n1, n2 …"`
	Guests int    `default:"1" help:"How many guests of each nest: n1g1, n1g2 …"`
	Userns bool   `default:"true" negatable:"" help:"Guests have a user namespace of their own."`
	Rootfs string `type:"path" placeholder:"DIR" help:"The tree under the guests' roots; default: this host's own root."`
	Rate   string `placeholder:"100mbit" help:"Limit of the repository's and each nest's link, each direction."`
}

// Run makes the testbed.
func (c *upCommand) Run(ctx context.Context, streams program.Streams) error {
	t, err := testbed.Up(ctx, testbed.Options{
		Dir: c.Dir, Nests: c.Nests, Guests: c.Guests, NoUserNS: !c.Userns, Rootfs: c.Rootfs, Rate: c.Rate,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(streams.Err, "The testbed in %s is ready: %d nests, %d guests.\n", t.Dir(), len(t.Nests()), len(t.Guests("")))
	return nil
}
