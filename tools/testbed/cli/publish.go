package cli

import (
	"context"

	"stork/tools/testbed"
)

type publishCommand struct {
	target
	As    string   `default:"alice" help:"The publisher."`
	Files []string `arg:"" name:"file" type:"existingfile" help:"Packages."`
}

// Run publishes.
func (c *publishCommand) Run(ctx context.Context) error {
	t, err := testbed.Open(c.Dir)
	if err != nil {
		return err
	}
	return t.Publish(ctx, c.As, c.Files)
}
