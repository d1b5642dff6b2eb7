package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"stork/fixtures"
)

// programs are what the tests run.
var programs = []string{"stork", "stork-guest", "stork-repo", "stork-testbed", "nestd"}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // each test skips
	}
	dir, err := os.MkdirTemp("", "stork-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin, err := findPrograms(dir)
	if err == nil {
		err = os.Setenv("STORK_BIN", bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot find the programs:", err)
		return 1
	}
	return m.Run()
}

// findPrograms returns the folder with the programs, which is spare if they
// have to be built.
func findPrograms(spare string) (string, error) {
	if dir := os.Getenv("STORK_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if bin := filepath.Join(root, "bin"); complete(bin) {
		return bin, nil
	}
	if err := os.Chmod(spare, 0o711); err != nil {
		return "", err
	}
	cmd := exec.Command("make", "build", "BIN="+spare)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return spare, nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
}

func complete(bin string) bool {
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return false
		}
	}
	return true
}

// needRoot skips a test that makes namespaces and mounts; in CI it must run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "needs root: it makes machines and guests of namespaces and mounts"
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func TestScripts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	fixtures.NeedTool(t, "rpmbuild")
	h := &harness{bin: os.Getenv("STORK_BIN"), real: realPackages(t), turns: make(chan struct{}, 2)}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup:              h.setup,
		Condition:          h.condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"testbed":  testbed,  // testbed [FLAG…]: make one, in $BED; it ends with the script
			"publish":  publish,  // publish [--as NAME] FILE…
			"guest":    guest,    // guest [-status N] NAME COMMAND…: as root of a guest or machine
			"script":   script,   // script [-status N] NAME FILE [ARGUMENT…]: the same with a shell script
			"build":    build,    // build SPEC [MACRO=VALUE…]: with rpmbuild, packages into $WORK
			"real":     real,     // real PATTERN…: packages that others made, into $WORK
			"stats":    stats,    // stats: the testbed's figures, as JSON on stdout
			"json":     jsonIs,   // [!] json PATH VALUE: of the last stdout
			"size":     size,     // size VARIABLE FILE
			"inode":    inode,    // inode FILE GUEST…: the same in each
			"hashtree": hashtree, // hashtree save|same NAME DIR
			"asrpm":    asRPM,    // asrpm GUEST FILE: rpm's own list is what the guest has
			"daemon":   daemon,   // daemon kill|stop|cont|start repo|NEST
			"until":    until,    // until NAME COMMAND…: repeat until it succeeds
			"host":     host,     // host NEST: a machine on which container runtimes run
			"rootfs":   rootfs,   // rootfs NAME own|host: a container's root, in $ROOTS, of which users
			"shared":   shared,   // [!] shared NEST PATH: the last stdout is the inode of that path in the store
			"machine":  power,    // machine start|reboot|off NEST NAME: a virtual machine, whose guest nestd knows
			"vm":       vm,       // vm [-status N] NAME COMMAND…: a command line in it; its errors are in stdout too
		},
	})
}

func realPackages(t *testing.T) map[string]string {
	found := map[string]string{}
	for _, path := range fixtures.RealRPMs(t) {
		found[filepath.Base(path)] = path
	}
	return found
}

// harness is what all scripts share.
type harness struct {
	bin   string
	real  map[string]string // base name → path
	turns chan struct{}     // one for each testbed that may run now
}

// key is under which a script finds its bed.
type key struct{}

// setup gives a script its turn and an address for its testbed.
func (h *harness) setup(env *testscript.Env) error {
	h.turns <- struct{}{}
	env.Defer(func() { <-h.turns })
	// Machines run as other users, who must come to their files.
	dir, err := os.MkdirTemp("", "stork-e2e-")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	b := &bed{harness: h, dir: filepath.Join(dir, "bed"), stopped: map[string]*process{}, trees: map[string]string{}, machines: map[string]*virtual{}}
	env.Values[key{}] = b
	env.Defer(func() { // the testbed has ended, and with it what it ran
		if err := removeGroup(b.group); err != nil {
			env.T().Fatal("cannot remove the cgroup: ", err)
		}
	})
	env.Setenv("ROOTS", filepath.Join(dir, "roots"))
	env.Setenv("BED", b.dir)
	env.Setenv("PATH", h.bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	// rpmbuild and the compiler want a home.
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("ARCH", rpmArch())
	return nil
}

// condition knows [has:PROGRAM], [boots:ARCHITECTURE] if there is a kernel for
// virtual machines and this is one of those, and [real:PATTERN] for packages
// that others made. In CI everything must be there.
func (h *harness) condition(cond string) (bool, error) {
	kind, arg, _ := strings.Cut(cond, ":")
	found := false
	switch kind {
	case "has":
		_, err := exec.LookPath(arg)
		found = err == nil
		if !found && os.Getenv("CI") == "true" {
			return false, fmt.Errorf("%s is not installed: make deps installs it", arg)
		}
	case "boots":
		_, err := kernelImage()
		found = err == nil && arg == runtime.GOARCH
		if err != nil && arg == runtime.GOARCH && os.Getenv("CI") == "true" {
			return false, fmt.Errorf("%w: make deps-kernel unpacks it", err)
		}
	case "real":
		paths, err := h.match(arg)
		if err != nil {
			return false, err
		}
		found = len(paths) > 0
	default:
		return false, errors.New("no such condition")
	}
	return found, nil
}

func (h *harness) match(pattern string) ([]string, error) {
	var paths []string
	for base, path := range h.real {
		ok, err := filepath.Match(pattern, base)
		if err != nil {
			return nil, err
		}
		if ok {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// rpmArch is what rpm calls this machine.
func rpmArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}
