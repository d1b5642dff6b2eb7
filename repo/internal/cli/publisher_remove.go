package cli

import (
	"context"
	"fmt"

	"stork/repo"
	"stork/repo/program"
)

type publisherRemoveCmd struct {
	location
	offline
	consent
	Name string `arg:"" help:"The publisher's name."`
}

// Run ends the delegations. What was published stays on disk: others may
// refer to it.
func (c *publisherRemoveCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	name, err := repo.ParsePublisher(c.Name)
	if err != nil {
		return err
	}
	h, err := c.open(env)
	if err != nil {
		return err
	}
	keys, err := c.dir(h)
	if err != nil {
		return err
	}
	ok, err := c.given(streams, fmt.Sprintf("end the right of %s to publish; guests that trust it get no packages of it any more", name))
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
	if err := metadata.RemoveIdentity(keys, name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "Removed %s.\n", name)
	return err
}
