package cli

import (
	"context"
	"io"
	"time"

	"stork/repo/durable"
	"stork/repo/program"
)

// grammar is the command line.
type grammar struct {
	program.Common

	Init      initCmd      `cmd:"" group:"Repository" help:"Make a repository and its keys."`
	Serve     serveCmd     `cmd:"" group:"Repository" help:"Serve a repository and take uploads."`
	Status    statusCmd    `cmd:"" group:"Repository" help:"Show versions, and what expires soon."`
	Check     checkCmd     `cmd:"" group:"Repository" help:"Verify every file of a repository."`
	Refresh   refreshCmd   `cmd:"" group:"Repository" help:"Sign snapshot and timestamp again now."`
	Warm      warmCmd      `cmd:"" group:"Repository" help:"Have nests fetch packages before anybody installs them."`
	Publisher publisherCmd `cmd:"" group:"Trust" help:"Say who may publish."`
	Nest      nestCmd      `cmd:"" group:"Trust" help:"Say which nests are known."`
	Rotate    rotateCmd    `cmd:"" group:"Trust" help:"Replace the online keys, as after a theft."`
}

// Run is the program: it returns the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return program.Run(ctx, program.Spec{
		Name: "stork-repo",
		Description: "Keep a repository of packages.\n\n" +
			"Exit status: 0 done; 1 failed; 2 wrong usage; 3 check found problems; 4 something has expired or will soon; " +
			"5 the offline keys are not at hand; 6 the repository is in use, exists already, or does not exist.",
		Grammar: new(grammar),
		Bind:    []any{&environment{disk: durable.Disk{}, now: time.Now}},
		Explain: explain,
	}, args, program.Streams{In: stdin, Out: stdout, Err: stderr})
}

// environment is what commands take from outside besides their streams.
type environment struct {
	disk durable.Disk
	now  func() time.Time
}
