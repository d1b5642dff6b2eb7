package cli

import (
	"context"
	"io"

	"stork/nestd/internal/attach"
	"stork/nestd/unpack"
	"stork/repo/program"
)

// description stands in the help and the man page.
const description = `The nest: fetches packages once for every guest of this host, keeps one copy, and shares it read-only.

Exit statuses: 0 done; 1 failed; 2 wrong usage; 3 the daemon does not run; 4 no such guest or repository; ` +
	`5 exists already or is in use; 6 the repository can not be reached; 7 the repository can not be trusted; ` +
	`8 the disk is full; 9 the store is damaged.`

// grammar is the command line. A fresh one is made for each run.
type grammar struct {
	program.Common
	Dir string `default:"/var/lib/nestd" env:"NESTD_DIR" type:"path" help:"Directory of the nest."`

	Init     initCommand     `cmd:"" help:"Make a nest, pin a repository, print the nest's key. Again: pin another one."`
	Run      runCommand      `cmd:"" help:"Run the daemon."`
	Guest    guestCommands   `cmd:"" help:"Add, show, remove and list guests."`
	Status   statusCommand   `cmd:"" help:"Show the state of the nest."`
	Refresh  refreshCommand  `cmd:"" help:"Ask every repository for news now."`
	Prefetch prefetchCommand `cmd:"" help:"Place packages in the store before any guest asks for them."`
	Store    storeCommands   `cmd:"" help:"Look at the store."`
	Usage    usageCommand    `cmd:"" help:"Show what guests and owners use of disk and page cache, shared files divided fairly."`
}

// AfterApply hands commands the directory.
func (g *grammar) AfterApply(home *home) error {
	home.dir = g.Dir
	return nil
}

// Run runs the program with its arguments and streams, and returns the exit
// status. Cancelling ctx stops the daemon in order.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] { // children: before any work that they do not need
		case unpackerCommand:
			return unpack.Main(args[1:])
		case fetcherCommand:
			return runFetcher(ctx, args[1:], stderr)
		case placerCommand:
			return attach.PlacerMain(stdin, stdout)
		case machineCommand:
			return runMachine(ctx, args[1:], stderr)
		case relayCommand:
			return runRelay(ctx, stderr)
		}
	}
	return program.Run(ctx, program.Spec{
		Name: "nestd", Description: description, Grammar: &grammar{}, Bind: []any{&home{}}, Explain: explain,
	}, args, program.Streams{In: stdin, Out: stdout, Err: stderr})
}
