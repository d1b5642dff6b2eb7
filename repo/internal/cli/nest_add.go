package cli

import (
	"context"
	"fmt"

	"stork/repo/internal/home"
	"stork/repo/program"
)

type nestAddCmd struct {
	location
	DryRun bool   `help:"Only say what would be done." short:"n"`
	Name   string `help:"A name for people."`
	Key    string `arg:"" help:"The nest's public key, as nestd init printed it."`
}

// Run approves a nest. To approve it again changes its name.
func (c *nestAddCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	key, err := home.ParseNestKey(c.Key)
	if err != nil {
		return err
	}
	h, err := c.open(env)
	if err != nil {
		return err
	}
	if c.DryRun {
		_, err = fmt.Fprintf(streams.Out, "Would approve nest %s.\n", key)
		return err
	}
	unlock, err := h.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.AddNest(key, c.Name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "Approved nest %s.\n", key)
	return err
}
