package testbed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

// Machines that every testbed has.
const (
	repoName      = "repo"
	publisherName = "alice"
)

// state is what later calls must know, in state.json.
type state struct {
	Hub      process           `json:"hub"`
	Bin      string            `json:"bin"`
	Rootless bool              `json:"rootless"`
	HostUser bool              `json:"host_user"` // guests share the host's user namespace
	URL      string            `json:"url"`       // of the repository
	Root     repo.Digest       `json:"root"`      // its identity
	Owner    repo.Digest       `json:"owner"`     // alice
	Nests    []string          `json:"nests"`
	Guests   map[string]string `json:"guests"` // guest → nest
	Ready    bool              `json:"ready"`
}

// process is a process that no other can be mistaken for: its number and when
// it started, in the kernel's ticks since boot.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// processOf identifies a running process.
func processOf(pid int) (process, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// Field 22, counted after the command, which may hold anything (proc(5)).
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return process{}, fmt.Errorf("cannot read the start of process %d", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("cannot read the start of process %d: %w", pid, err)
	}
	return process{PID: pid, Start: start}, nil
}

// Testbed is a running testbed, or what is left of one. Its methods may be
// called from several goroutines.
type Testbed struct {
	dir      string
	state    state
	transfer string     // Options.Transfer, while it is made
	operator sync.Mutex // held while the offline keys are within reach
}

// errNone says that a folder holds no testbed.
var errNone = errors.New("there is no testbed")

// Open finds the testbed in a folder.
func Open(dir string) (*Testbed, error) {
	t, err := load(dir)
	if err != nil {
		return nil, err
	}
	if !t.state.Ready {
		return nil, fmt.Errorf("cannot use the testbed in %s: 'up' did not finish; clear it with 'stork-testbed down --dir %s'", dir, dir)
	}
	return t, nil
}

func load(dir string) (*Testbed, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open testbed: %w", err)
	}
	t := &Testbed{dir: dir}
	data, err := os.ReadFile(t.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot open testbed %s: %w", dir, errNone)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open testbed: %w", err)
	}
	if err := json.Unmarshal(data, &t.state); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", t.path("state.json"), err)
	}
	return t, nil
}

func (t *Testbed) save() error {
	data, err := json.MarshalIndent(t.state, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the testbed's state: %w", err)
	}
	return durable.Disk{}.WriteFile(t.path("state.json"), append(data, '\n'), 0o600)
}

func (t *Testbed) path(elements ...string) string {
	return filepath.Join(append([]string{t.dir}, elements...)...)
}

func (t *Testbed) socket(box string) string { return t.path("run", box+".sock") }

func (t *Testbed) program(name string) string { return filepath.Join(t.state.Bin, name) }

// Dir returns the testbed's folder.
func (t *Testbed) Dir() string { return t.dir }

// Nests returns the names of the nests, in order.
func (t *Testbed) Nests() []string { return slices.Clone(t.state.Nests) }

// Guests returns the names of the guests of one nest, or of all if it is
// empty, in order.
func (t *Testbed) Guests(nest string) []string {
	var names []string
	for guest, of := range t.state.Guests {
		if nest == "" || of == nest {
			names = append(names, guest)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b) // n1g9 before n1g10
		}
		return strings.Compare(a, b)
	})
	return names
}

// NestDir returns a nest's directory on the host.
func (t *Testbed) NestDir(nest string) string { return t.path(nest) }

// OperatorSocket returns the path of a nest's operator's socket.
func (t *Testbed) OperatorSocket(nest string) string { return t.path(nest, "run", "operator.sock") }

// takeLock locks the folder against another testbed, and waits for a dying
// one's processes to end if wait is set.
func takeLock(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	flags := unix.LOCK_EX
	if !wait {
		flags |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), flags)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
