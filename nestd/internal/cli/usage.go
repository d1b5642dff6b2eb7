package cli

import (
	"context"
	"fmt"

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
	partial := false
	for _, u := range usage.Guests {
		rows = append(rows, usageRow(u.Guest, u))
		partial = partial || u.Own.Partial
	}
	for _, u := range usage.Owners {
		rows = append(rows, usageRow("owner "+u.Owner.Short(), u))
	}
	unused := sizeText(usage.Unused.Disk)
	rows = append(rows, []string{"(nobody)", unused, unused, unused, "", sizeText(usage.Unused.Cache), sizeText(usage.Unused.Cache), sizeText(usage.Unused.Cache)})
	heading := []string{"", "DISK: APPARENT", "PRIVATE", "FAIR", "(UPPER)", "CACHE: APPARENT", "PRIVATE", "FAIR"}
	if err := streams.Table(heading, rows); err != nil || !partial {
		return err
	}
	_, err = fmt.Fprintln(streams.Out, "+ has more files in its upper directory than were counted.")
	return err
}

func usageRow(name string, u api.Use) []string {
	own := sizeText(u.Own.Disk)
	if u.Own.Partial {
		own += "+"
	}
	return []string{
		name, sizeText(u.Disk.Apparent), sizeText(u.Disk.Private), sizeText(u.Disk.Fair), own,
		sizeText(u.Cache.Apparent), sizeText(u.Cache.Private), sizeText(u.Cache.Fair),
	}
}
