package cli

import (
	"context"
	"errors"

	"stork/repo/program"
)

type refreshCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run asks every repository for news, and fails if one could not answer.
func (c *refreshCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	list, err := operator.Refresh(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = streams.JSON(list)
	} else {
		err = printRepositories(streams, list)
	}
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Error != "" {
			return &program.Error{Status: exitUnreachable, Err: errors.New("cannot refresh every repository: see above")}
		}
	}
	return nil
}
