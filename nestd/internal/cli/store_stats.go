package cli

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"

	"stork/repo/program"
)

type storeStatsCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows what the store holds.
func (c *storeStatsCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	stats, err := operator.StoreStats(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(stats)
	}
	_, err = fmt.Fprintf(streams.Out, "layers   %d\nobjects  %d\non disk  %s\nwithout sharing  %s\n",
		stats.Layers, stats.Objects, humanize.IBytes(uint64(max(stats.Bytes, 0))), humanize.IBytes(uint64(max(stats.ApparentBytes, 0))))
	return err
}
