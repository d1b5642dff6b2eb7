package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"stork/nestd/api"
	"stork/nestd/internal/runtime"
	"stork/repo/durable"
	"stork/repo/program"
)

// runtimeFlags are those of commands that say what a runtime has to be told.
type runtimeFlags struct {
	Runtime   runtime.Name `enum:",nspawn,lxc,podman,docker,qemu,plain" default:"" placeholder:"NAME" help:"Say what this runtime has to be told: nspawn, lxc, podman, docker, qemu, or plain for namespaces made by hand."`
	RootUser  uint32       `name:"root-user" placeholder:"N" help:"The host's user that is root in the guest: for lxc, by default 100000; for qemu, by default one that nestd chooses."`
	QEMUUser  string       `name:"qemu-user" default:"root" help:"The user that runs QEMU, for qemu."`
	Write     bool         `help:"Write the runtime's configuration file, if it has one. What is there already is not replaced."`
	Root      string       `default:"/" type:"path" placeholder:"DIR" help:"Write below this directory, as if it were /."`
	Arguments bool         `help:"Print only the arguments for the runtime's command line."`
}

// Validate implements kong's hook.
func (f *runtimeFlags) Validate() error {
	if f.Runtime == "" && (f.Write || f.Arguments) {
		return errors.New("--write and --arguments go with --runtime")
	}
	return nil
}

// shown is a guest, and what its runtime has to be told if that was asked.
type shown struct {
	*api.Guest
	Runtime *runtime.Config `json:"runtime,omitempty"`
}

// config describes the runtime, and writes its file if that is wanted; nil if
// none was asked for.
func (f *runtimeFlags) config(home *home, g *api.Guest) (*runtime.Config, error) {
	if f.Runtime == "" {
		return nil, nil
	}
	sockets, err := machineDir(home, g.Name)
	if err != nil {
		return nil, err
	}
	nestd, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find nestd: %w", err)
	}
	config, err := runtime.For(f.Runtime, runtime.Guest{
		Name: g.Name, Directory: g.Directory, Target: api.GuestDir, HostUserNS: g.HostUserNS, Placement: g.Placement, RootUser: f.RootUser,
		Sockets: sockets, QEMUUser: f.QEMUUser, Nestd: []string{nestd, "--dir=" + home.dir},
	})
	if err != nil {
		return nil, &program.Error{Status: program.Failed, Err: err, Hint: "Give the nest a plain directory with 'nestd init --run-dir'."}
	}
	if f.Write {
		err = f.write(config)
	}
	return config, err
}

// write writes the runtime's file, unless it is there already.
func (f *runtimeFlags) write(config *runtime.Config) error {
	file := config.File
	if file == nil {
		return &program.Error{Status: program.Usage, Err: fmt.Errorf("cannot write a file for runtime %s: it reads none", config.Runtime)}
	}
	path := filepath.Join(f.Root, file.Path)
	if file.Parent != "" {
		if _, err := os.Stat(filepath.Join(f.Root, file.Parent)); err != nil {
			return &program.Error{Status: exitNotFound, Err: fmt.Errorf("cannot write %s: %w", path, err),
				Hint: fmt.Sprintf("Make the container %s first.", config.Guest)}
		}
	}
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(have, []byte(file.Content)):
		return nil
	case err == nil:
		return &program.Error{Status: exitConflict, Err: fmt.Errorf("cannot write %s: there is another one", path),
			Hint: fmt.Sprintf("Add the lines that 'nestd guest show %s --runtime %s' prints.", config.Guest, config.Runtime)}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	disk := durable.Disk{}
	if err := disk.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return disk.WriteFile(path, []byte(file.Content), 0o644)
}

// show prints a guest, and what its runtime has to be told if that was asked.
func (f *runtimeFlags) show(streams program.Streams, home *home, g *api.Guest, asJSON bool) error {
	config, err := f.config(home, g)
	if err != nil {
		return err
	}
	if asJSON {
		return streams.JSON(shown{g, config})
	}
	f.print(streams, g, config)
	return nil
}

// print shows a guest and its runtime to a person.
func (f *runtimeFlags) print(streams program.Streams, g *api.Guest, config *runtime.Config) {
	if f.Arguments {
		for _, argument := range config.Arguments {
			fmt.Fprintln(streams.Out, argument)
		}
		return
	}
	what := "Bind this directory into the guest at %s, read-only:\n%s\n"
	if f.Runtime == runtime.QEMU {
		what = "The machine has at %s, read-only, what is in this directory:\n%s\n"
	}
	fmt.Fprintf(streams.Out, what, api.GuestDir, g.Directory)
	if config != nil {
		fmt.Fprintf(streams.Out, "\n%s", config.Text())
	}
	if f.Write {
		fmt.Fprintf(streams.Out, "Wrote %s.\n", filepath.Join(f.Root, config.File.Path))
	}
	if g.HostUserNS {
		fmt.Fprintln(streams.Err, "nestd: the guest shares the host's user namespace: its root can become the host's.")
	}
}
