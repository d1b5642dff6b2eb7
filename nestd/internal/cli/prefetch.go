package cli

import (
	"context"
	"errors"
	"fmt"

	"stork/repo/program"
)

type prefetchCommand struct {
	Packages []string `arg:"" name:"package" help:"A package: name, publisher/name, name=version or name=version-release. Without a version: the newest."`
	JSON     bool     `name:"json" help:"Print JSON."`
}

// Help is shown below the usage.
func (c *prefetchCommand) Help() string {
	return "What the packages require is not fetched with them. They stay in the store as packages do that no guest has."
}

// Run waits until the packages are in the store, and fails if one is not.
func (c *prefetchCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	list, err := operator.Prefetch(ctx, c.Packages)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range list {
		switch {
		case p.Error != nil:
			failed = append(failed, p.Error)
		case c.JSON:
		case p.Cached:
			fmt.Fprintf(streams.Out, "%s of %s is there already\n", p.NEVRA, p.Publisher)
		default:
			fmt.Fprintf(streams.Out, "%s of %s: %d bytes fetched, %d stored\n", p.NEVRA, p.Publisher, p.Fetched, p.Stored)
		}
	}
	if c.JSON {
		return errors.Join(streams.JSON(list), errors.Join(failed...))
	}
	return errors.Join(failed...)
}
