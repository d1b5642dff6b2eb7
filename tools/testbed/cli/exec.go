package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"stork/repo/program"
	"stork/tools/testbed"
)

type execCommand struct {
	target
	Guest   string   `arg:"" help:"A guest (or machine)."`
	Command []string `arg:"" passthrough:"" help:"After --: the command and its arguments."`
}

// execStatus is that of the command which exec ran.
type execStatus int

// Run runs the command, whose exit status becomes the program's. Signals go
// to the command.
func (c *execCommand) Run(streams program.Streams, status *execStatus) error {
	t, err := testbed.Open(c.Dir)
	if err != nil {
		return err
	}
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("cannot run nothing: name a command after --")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	// Not the program's context, which the same signals end: the command
	// decides what they mean.
	r, err := t.ExecSignals(context.Background(), c.Guest, testbed.Command{
		Args: args, Stdin: streams.In, Stdout: streams.Out, Stderr: streams.Err,
	}, signals)
	*status = execStatus(r.Status)
	return err
}
