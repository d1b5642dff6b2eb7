package cli

import (
	"context"
	"fmt"

	"stork/repo/program"
)

type storeCheckCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run checks the store, and fails with a status of its own if something is
// wrong.
func (c *storeCheckCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	report, err := operator.StoreCheck(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = streams.JSON(report)
	} else {
		for _, problem := range report.Problems {
			fmt.Fprintln(streams.Out, problem)
		}
		_, err = fmt.Fprintf(streams.Out, "checked %d layers and %d objects\n", report.Layers, report.Objects)
	}
	if err == nil && len(report.Problems) > 0 {
		err = &program.Error{Status: exitDamaged, Err: fmt.Errorf("the store has %d problems", len(report.Problems))}
	}
	return err
}
