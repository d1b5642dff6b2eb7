package cli

import (
	"time"

	"stork/repo/internal/home"
	"stork/repo/program"
)

type nestListCmd struct {
	location
	JSON bool `help:"Print JSON." name:"json"`
}

// Run lists the approved nests.
func (c *nestListCmd) Run(env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	nests, err := h.Nests()
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(append([]home.Nest{}, nests...))
	}
	rows := [][]string{}
	for _, n := range nests {
		rows = append(rows, []string{n.Key.String(), time.Unix(n.Added, 0).UTC().Format(time.DateOnly), n.Name})
	}
	return streams.Table([]string{"KEY", "APPROVED", "NAME"}, rows)
}
