package cli

import (
	"context"
	"fmt"

	"stork/repo/program"
)

type refreshCmd struct {
	location
	offline
	DryRun bool `help:"Only say what would be done." short:"n"`
	All    bool `help:"Renew root and targets too, which takes the offline keys."`
}

// Run renews metadata now, whatever its age.
func (c *refreshCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	keys := ""
	if c.All {
		if keys, err = c.dir(h); err != nil {
			return err
		}
	}
	if !c.DryRun {
		unlock, err := h.Lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		metadata, err := h.Metadata()
		if err != nil {
			return err
		}
		if c.All {
			err = metadata.RenewOffline(keys)
		} else {
			_, err = metadata.Renew(true)
		}
		if err != nil {
			return err
		}
	}
	what := "snapshot and timestamp"
	if c.All {
		what = "root, targets, snapshot and timestamp"
	}
	if c.DryRun {
		_, err = fmt.Fprintf(streams.Out, "Would renew %s.\n", what)
		return err
	}
	versions, err := h.Versions()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "Renewed %s: snapshot %d, timestamp %d.\n", what, versions.Snapshot, versions.Timestamp)
	return err
}
