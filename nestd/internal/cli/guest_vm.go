package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/daemon"

	"stork/nestd/api"
	"stork/nestd/internal/machine"
	"stork/repo/program"
)

type guestVMCommand struct {
	Name      string  `arg:"" help:"Name of the guest."`
	User      string  `default:"root" help:"The user that runs QEMU: the sockets are its own."`
	RootUser  *uint32 `name:"root-user" placeholder:"N" help:"The first of the 65536 users of the host as which the guest's files are read and shared; default: as before, at first some that no other machine has."`
	Virtiofsd string  `type:"path" placeholder:"FILE" help:"Path of virtiofsd; default: where distributions have it."`
}

// Validate implements kong's hook.
func (c *guestVMCommand) Validate() error {
	if c.RootUser != nil && *c.RootUser == 0 {
		return errors.New("--root-user can not be the host's root")
	}
	return nil
}

// Run serves the machine until ctx ends.
func (c *guestVMCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	guest, err := findGuest(ctx, home, c.Name)
	if err != nil {
		return err
	}
	if guest.Placement {
		return &program.Error{Status: program.Usage, Err: fmt.Errorf("cannot serve guest %s as a virtual machine: the nest is to place its files", c.Name),
			Hint: "The nest can not enter a machine. 'nestd guest add' with --no-placement changes that."}
	}
	owner, err := lookUp(c.User)
	if err != nil {
		return err
	}
	dir, err := machineDir(home, c.Name)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(streams.Err, nil))
	return machine.Run(ctx, machine.Options{
		Directory: guest.Directory, Sockets: dir, UID: owner.uid, GID: owner.gid, RootUser: func(ctx context.Context) (uint32, error) { return c.users(ctx, home) }, Virtiofsd: c.Virtiofsd,
		Command: []string{self, machineCommand}, Stderr: streams.Err, Log: log,
		Ready: func() {
			log.Info("ready", "guest", c.Name, "sockets", dir)
			if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
				log.Warn("cannot notify systemd", "err", err)
			}
		},
	})
}

// users has the nest note that the guest is a machine, and whom it is served by.
func (c *guestVMCommand) users(ctx context.Context, home *home) (uint32, error) {
	operator, err := home.operator()
	if err != nil {
		return 0, err
	}
	defer operator.Close()
	var request api.MachineRequest
	if c.RootUser != nil {
		request.RootUser = *c.RootUser
	}
	guest, err := operator.Machine(ctx, c.Name, request)
	if err != nil {
		return 0, err
	}
	return guest.RootUser, nil
}

// machineDir is where the sockets of a guest that is a virtual machine are.
func machineDir(home *home, guest string) (string, error) {
	config, err := home.load()
	if err != nil {
		return "", err
	}
	return filepath.Join(config.RunDir, "vm", guest), nil
}

// runMachine is the first process in a machine's namespaces.
func runMachine(ctx context.Context, args []string, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if len(args) != 1 {
		fmt.Fprintln(stderr, "this is for nestd itself to start")
		return program.Usage
	}
	if err := machine.Inside(ctx, args[0], []string{self, relayCommand}, stderr, log); err != nil && ctx.Err() == nil {
		log.Error("cannot serve the machine any longer", "err", err)
		return program.Failed
	}
	return program.OK
}

func runRelay(ctx context.Context, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := machine.Relay(ctx, log); err != nil {
		log.Error("relay stopped", "err", err)
		return program.Failed
	}
	return program.OK
}
