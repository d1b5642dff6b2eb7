package guest

import (
	"context"
	"fmt"

	"stork/client"
	"stork/repo/program"
)

type mountCmd struct {
	Unit bool `help:"Print a systemd unit that does it at every start, for /etc/systemd/system/stork-mount.service."`
}

// Run implements the command.
func (c *mountCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	if c.Unit {
		_, err := fmt.Fprint(streams.Out, client.MountUnit)
		return err
	}
	s := newSession(g, env, streams)
	defer s.close()
	guest, err := s.guest(ctx, false, nil)
	if err != nil {
		return err
	}
	defer guest.Close()
	err = guest.Mount(ctx)
	if err != nil && !guest.MayMount() {
		return &program.Error{Status: program.Failed, Err: err,
			Hint: "This guest may not mount (it has no CAP_SYS_ADMIN). `stork method symlink` shares the packages without mounts."}
	}
	return err
}
