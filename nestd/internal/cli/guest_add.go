package cli

import (
	"context"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/program"
)

type guestAddCommand struct {
	Name       string      `arg:"" help:"Name of the guest: lower-case letters, digits and inner . _ -"`
	Owner      repo.Digest `required:"" placeholder:"sha256:…" help:"Digest of the owner's first key document."`
	HostUserns bool        `name:"host-userns" help:"The guest has no user namespace of its own. It is then no boundary: its root can mount the host's disk."`
	Placement  *bool       `negatable:"" help:"The nest places the guest's mounts, for guests without CAP_SYS_ADMIN. Default: for podman and docker; otherwise as it was, at first not. Said again, it is changed."`
	runtimeFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Run registers the guest with the running daemon.
func (c *guestAddCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	if c.Placement == nil && c.Runtime.NeedsPlacement() {
		yes := true
		c.Placement = &yes
	}
	guest, err := operator.AddGuest(ctx, api.GuestRequest{Name: c.Name, Owner: c.Owner, HostUserNS: c.HostUserns, Placement: c.Placement})
	if err != nil {
		return err
	}
	return c.show(streams, home, guest, c.JSON)
}
