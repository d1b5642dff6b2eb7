package cli

import (
	"context"
	"fmt"

	"stork/repo/internal/home"
	"stork/repo/program"
)

type nestRemoveCmd struct {
	location
	consent
	Key string `arg:"" help:"The nest's public key."`
}

// Run takes an approval back.
func (c *nestRemoveCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	key, err := home.ParseNestKey(c.Key)
	if err != nil {
		return err
	}
	h, err := c.open(env)
	if err != nil {
		return err
	}
	ok, err := c.given(streams, fmt.Sprintf("take the approval of nest %s back", key))
	if err != nil || !ok {
		return err
	}
	unlock, err := h.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.RemoveNest(key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "Removed nest %s.\n", key)
	return err
}
