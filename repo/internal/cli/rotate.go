package cli

import (
	"context"
	"fmt"

	"stork/repo/program"
)

type rotateCmd struct {
	location
	offline
	consent
}

// Run replaces snapshot and timestamp keys. The old key files stay where they
// are, good for nothing.
func (c *rotateCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	keys, err := c.dir(h)
	if err != nil {
		return err
	}
	ok, err := c.given(streams, "replace the snapshot and timestamp keys")
	if err != nil || !ok {
		return err
	}
	unlock, err := h.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	metadata, err := h.Metadata()
	if err != nil {
		return err
	}
	if err := metadata.RotateOnline(keys); err != nil {
		return err
	}
	_, err = fmt.Fprintln(streams.Out, "Replaced the online keys.")
	return err
}
