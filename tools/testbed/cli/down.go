package cli

import (
	"context"

	"stork/tools/testbed"
)

type downCommand struct {
	target
}

// Run ends the testbed.
func (c *downCommand) Run(ctx context.Context) error { return testbed.Down(ctx, c.Dir) }
