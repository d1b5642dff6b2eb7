package cli

import (
	"context"

	"github.com/dustin/go-humanize"

	"stork/nestd/api"
	"stork/repo/program"
)

type usageCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows what guests and owners use.
func (c *usageCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	usage, err := operator.Usage(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(usage)
	}
	var rows [][]string
	for _, u := range usage.Guests {
		rows = append(rows, usageRow(u.Guest, u))
	}
	for _, u := range usage.Owners {
		rows = append(rows, usageRow("owner "+u.Owner.Short(), u))
	}
	return streams.Table([]string{"", "DISK: APPARENT", "PRIVATE", "FAIR", "CACHE: APPARENT", "PRIVATE", "FAIR"}, rows)
}

func usageRow(name string, u api.Use) []string {
	row := []string{name}
	for _, n := range []int64{u.Disk.Apparent, u.Disk.Private, u.Disk.Fair, u.Cache.Apparent, u.Cache.Private, u.Cache.Fair} {
		row = append(row, humanize.IBytes(uint64(max(n, 0))))
	}
	return row
}
