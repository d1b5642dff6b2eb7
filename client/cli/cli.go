package cli

import (
	"context"
	"io"
	"time"

	"stork/client/direct"
	"stork/client/scriptlet/lua"
	"stork/nestd/unpack"
	"stork/repo/program"
)

// grammar is the command line.
type grammar struct {
	program.Common

	Sysroot string `help:"Work in the guest whose root is this directory." default:"/" env:"STORK_SYSROOT" hidden:""`
	Dir     string `help:"The directory that the nest gave this guest." default:"/run/stork" env:"STORK_DIR" hidden:""`

	Install      installCmd      `cmd:"" group:"Guest" help:"Install packages and what they need."`
	Remove       removeCmd       `cmd:"" group:"Guest" help:"Remove packages."`
	Upgrade      upgradeCmd      `cmd:"" group:"Guest" help:"Upgrade packages: those named, or all."`
	List         listCmd         `cmd:"" group:"Guest" help:"List installed packages, or available ones."`
	Info         infoCmd         `cmd:"" group:"Guest" help:"Show what a package declares."`
	Search       searchCmd       `cmd:"" group:"Guest" help:"Find packages by words in their name or summary."`
	Files        filesCmd        `cmd:"" group:"Guest" help:"List a package's files."`
	Provides     providesCmd     `cmd:"" group:"Guest" help:"Find what provides a capability or a path."`
	Whatrequires whatrequiresCmd `cmd:"" group:"Guest" help:"Find what requires a package, a capability or a path."`
	Verify       verifyCmd       `cmd:"" group:"Guest" help:"Compare installed packages with what was installed."`
	Status       statusCmd       `cmd:"" group:"Guest" help:"Show this guest, its nest and its repositories."`
	Method       methodCmd       `cmd:"" group:"Guest" help:"Show how packages are shared, or change it."`
	Mount        mountCmd        `cmd:"" group:"Guest" help:"Bring back the mounts after the guest has restarted."`
	Pin          pinCmd          `cmd:"" group:"Guest" help:"Pin a repository and an owner, where no nest does it."`

	Key     keyCmd     `cmd:"" group:"Publisher" help:"Make and show keys."`
	Repo    repoCmd    `cmd:"" group:"Publisher" help:"Choose the repositories to publish to."`
	Publish publishCmd `cmd:"" group:"Publisher" help:"Sign packages and upload them."`
	Trust   trustCmd   `cmd:"" group:"Owner" help:"Say which packages your guests may install."`
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
		Bind:        []any{g, &environment{now: time.Now}},
		Explain:     explain,
	}, args, program.Streams{In: stdin, Out: stdout, Err: stderr})
}

// environment is what commands take from outside besides their streams.
type environment struct {
	now func() time.Time
}
