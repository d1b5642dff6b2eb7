package cli

import (
	"context"
	"io"

	"stork/repo/program"
)

// StatusOwn is the exit status of exec when the testbed itself fails, not the
// command.
const StatusOwn = 125

const description = `Many hosts and guests on one machine: a repository, a publisher, nests and their guests, for demos, tests and benchmarks.

Exit statuses: 0 done; 1 failed; 2 wrong usage; exec: the command's own, or 125 if the testbed failed.`

// grammar is the command line.
type grammar struct {
	program.Common
	Up      upCommand      `cmd:"" help:"Make a testbed; returns when it is ready."`
	Publish publishCommand `cmd:"" help:"Publish packages; returns when every nest serves them."`
	Exec    execCommand    `cmd:"" help:"Run a command as root of a guest (or in a machine: repo, alice, n1 …)."`
	Stats   statsCommand   `cmd:"" help:"Show what was served, fetched and stored."`
	Down    downCommand    `cmd:"" help:"End a testbed and remove what it made."`
}

// target is the testbed that a command is for.
type target struct {
	Dir string `required:"" type:"path" placeholder:"D" help:"The testbed's folder."`
}

// Run runs the program and returns the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	of := new(execStatus)
	status := program.Run(ctx, program.Spec{Name: "stork-testbed", Description: description, Grammar: &grammar{}, Bind: []any{of}},
		args, program.Streams{In: stdin, Out: stdout, Err: stderr})
	switch {
	case status == program.OK:
		return int(*of)
	case len(args) > 0 && args[0] == "exec":
		return StatusOwn
	}
	return status
}
