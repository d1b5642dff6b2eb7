package runtime

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Name is a runtime's name.
type Name string

// The runtimes that [For] knows. Plain is whatever makes namespaces by hand.
const (
	Nspawn Name = "nspawn"
	LXC    Name = "lxc"
	Podman Name = "podman"
	Docker Name = "docker"
	QEMU   Name = "qemu"
	Plain  Name = "plain"
)

// NeedsPlacement reports whether guests of the runtime have, as it starts
// them, no right to mount, so that the nest must place their mounts.
func (n Name) NeedsPlacement() bool { return n == Podman || n == Docker }

// Guest is what a runtime's configuration depends on.
type Guest struct {
	Name       string // also what the runtime calls it
	Directory  string // what is bound, on the host
	Target     string // where to, in the guest
	HostUserNS bool   // registered as sharing the host's users
	Placement  bool   // registered as having its mounts placed by the nest
	RootUser   uint32 // the host's user that is root in the guest, where a runtime has to know; 0: the usual one

	// For virtual machines only.
	Sockets  string   // directory of the machine's sockets
	QEMUUser string   // whose they are
	Nestd    []string // how this nest's nestd is started
}

// Config is what one runtime has to be told about one guest.
type Config struct {
	Runtime   Name     `json:"runtime"`
	Guest     string   `json:"guest"`
	Command   string   `json:"command,omitempty"`   // what takes the arguments, for example "podman run"
	Arguments []string `json:"arguments,omitempty"` // none has a character that a shell would change
	File      *File    `json:"file,omitempty"`      // the same for good, where the runtime reads files; for qemu, the service that it needs
	Host      []string `json:"host,omitempty"`      // commands for root of the host, once
	Restart   []string `json:"restart"`             // what brings mounts back when the guest starts again, a line each
	Notes     []string `json:"notes,omitempty"`     // what else must hold, a sentence each
}

// File is a configuration file of the runtime.
type File struct {
	Path    string `json:"path"`
	Content string `json:"content"`
	Use     string `json:"use,omitempty"`     // a line that the guest's own configuration needs for it
	UseIn   string `json:"use_in,omitempty"`  // where that line belongs
	Parent  string `json:"parent,omitempty"`  // a directory that must be there already, for the runtime makes it
	Version string `json:"version,omitempty"` // what reads the file, where not every version does
}

// plainPath is what a directory may consist of. Each runtime has characters
// of its own that mean something else, and a way of its own, or none, to
// quote them.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_+@.-]+)+$`)

// For returns what a runtime has to be told about a guest. It fails for a
// directory that can not be written the same way for every runtime.
func For(name Name, g Guest) (*Config, error) {
	paths := []string{g.Directory}
	if name == QEMU {
		paths = append(paths, g.Sockets, g.Nestd[0])
	}
	for _, path := range paths {
		if !plainPath.MatchString(path) || filepath.Clean(path) != path {
			return nil, fmt.Errorf("cannot write %q into a runtime's configuration: it has characters that runtimes read differently", path)
		}
	}
	describe := map[Name]func(*Config, Guest){
		Nspawn: nspawn, LXC: lxc, Podman: podman, Docker: docker, QEMU: qemu, Plain: plain,
	}[name]
	if describe == nil {
		return nil, fmt.Errorf("cannot describe runtime %q: it is none of nspawn, lxc, podman, docker, qemu, plain", name)
	}
	c := &Config{Runtime: name, Guest: g.Name}
	describe(c, g)
	return c, nil
}

// header is the first line of every file.
const header = "# The packages of guest %s, see nestd guest show %[1]s.\n"

// unit is how a guest that boots brings back its mounts.
var unit = []string{
	"In the guest, once, if it runs systemd:",
	"  /run/stork/stork mount --unit > /etc/systemd/system/stork-mount.service",
	"  systemctl enable stork-mount.service",
}

// prefix is how a guest that runs one command does.
var prefix = []string{
	"Let the container's command begin with 'stork mount':",
	"  … IMAGE /bin/sh -c '/run/stork/stork mount; exec \"$@\"' sh COMMAND…",
}

// Text is the configuration as a person reads it.
func (c *Config) Text() string {
	var b strings.Builder
	if len(c.Host) > 0 {
		fmt.Fprintf(&b, "On the host, once:\n  %s\n", strings.Join(c.Host, "\n  "))
	}
	if len(c.Arguments) > 0 {
		fmt.Fprintf(&b, "%s %s …\n", c.Command, strings.Join(c.Arguments, " "))
	}
	if f := c.File; f != nil {
		if len(c.Arguments) > 0 && c.Runtime != QEMU {
			b.WriteString("Or, ")
		}
		version := ""
		if f.Version != "" {
			version = " (" + f.Version + ")"
		}
		fmt.Fprintf(&b, "%s%s, which --write writes:\n", f.Path, version)
		for line := range strings.Lines(f.Content) {
			b.WriteString("  " + line)
		}
		if f.Use != "" {
			fmt.Fprintf(&b, "and in %s:\n  %s\n", f.UseIn, f.Use)
		}
	}
	fmt.Fprintf(&b, "%s\n", strings.Join(c.Restart, "\n"))
	for _, note := range c.Notes {
		fmt.Fprintf(&b, "Note: %s\n", note)
	}
	return b.String()
}
