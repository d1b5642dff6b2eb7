package cli

import (
	"context"
	"io"
	"time"

	"stork/client/chain"
	"stork/client/cli/guest"
	"stork/client/cli/publisher"
	"stork/client/direct"
	"stork/client/scriptlet/lua"
	"stork/nestd/api"
	"stork/nestd/unpack"
	"stork/repo/durable"
	"stork/repo/program"
)

// grammar is the command line.
type grammar struct {
	program.Common
	guest.Place
	guest.Commands
	Publishing publisher.Commands `embed:""`
}

// Run is the program: it returns the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case direct.UnpackerCommand:
			return unpack.Main(args[1:])
		case lua.Command:
			return lua.Main(args[1:])
		}
	}
	g := new(grammar)
	return program.Run(ctx, program.Spec{
		Name:        "stork",
		Description: "Install packages that this host's guests share.\n\nExit status: 0 done; 1 failed; 2 wrong usage; 3 no such package; 4 dependencies can not be met; 5 not trusted; 6 nest or repository can not be reached; 7 disk full; 8 another stork is running; 9 in conflict with the guest's files; 10 a scriptlet failed.",
		Grammar:     g,
		Bind:        []any{&g.Place, &guest.Environment{Now: time.Now, Verify: chain.Verify, Alone: alone}},
		Explain:     guest.Explain,
	}, args, program.Streams{In: stdin, Out: stdout, Err: stderr})
}

// alone serves a guest without a nest from its repositories.
func alone(dir string, p *api.Pins, disk durable.Disk) (guest.Host, error) {
	return direct.Open(direct.Options{Dir: dir, Pins: p, Disk: disk})
}
