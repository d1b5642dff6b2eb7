package guest

import (
	"time"

	"stork/client/catalog"
	"stork/nestd/api"
	"stork/repo/durable"
)

// Place says which guest a command works in.
type Place struct {
	Sysroot string `help:"Work in the guest whose root is this directory." default:"/" env:"STORK_SYSROOT" hidden:""`
	Dir     string `help:"The directory that the nest gave this guest." default:"/run/stork" env:"STORK_DIR" hidden:""`
}

// Environment is what commands take from outside besides their streams.
type Environment struct {
	Now    func() time.Time
	Verify catalog.Verify

	// Alone opens the repositories themselves, for a guest without a nest,
	// which keeps in dir what it fetches.
	Alone func(dir string, p *api.Pins, disk durable.Disk) (Host, error)
}

// Changes are the commands that bring packages and take them away.
type Changes struct {
	Install installCmd `cmd:"" group:"Guest" help:"Install packages and what they need."`
	Remove  removeCmd  `cmd:"" group:"Guest" help:"Remove packages."`
	Upgrade upgradeCmd `cmd:"" group:"Guest" help:"Upgrade packages: those named, or all."`
}

// Commands are all of a guest's.
type Commands struct {
	Changes
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
}
