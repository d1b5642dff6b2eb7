package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bed is a script's testbed.
type bed struct {
	*harness
	dir     string
	stopped map[string]*process // daemons that the script has ended
	trees   map[string]string   // hashes that it has saved
	group   string              // its cgroup; empty if it needs none

	machines map[string]*virtual
}

func bedOf(ts *testscript.TestScript) *bed { return ts.Value(key{}).(*bed) }

func (b *bed) program(name string) string { return filepath.Join(b.bin, name) }

func noNeg(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("can not be negated")
	}
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func testbed(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	b := bedOf(ts)
	ts.Defer(func() {
		// Not by ts.Exec, which refuses when the script has failed.
		out, err := exec.Command(b.program("stork-testbed"), "down", "--dir", b.dir).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "there is no testbed") {
			ts.Logf("cannot end the testbed: %v: %s", err, out)
		}
	})
	ts.Check(ts.Exec(b.program("stork-testbed"), append([]string{"up", "--dir", b.dir}, args...)...))
}

func publish(ts *testscript.TestScript, neg bool, args []string) {
	b := bedOf(ts)
	err := ts.Exec(b.program("stork-testbed"), append([]string{"publish", "--dir", b.dir}, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("publish: %v", err)
	}
}

// in runs a command in a guest or machine.
func (b *bed) in(ts *testscript.TestScript, name string, args ...string) (status int) {
	err := ts.Exec(b.program("stork-testbed"), append([]string{"exec", "--dir", b.dir, name, "--"}, args...)...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	ts.Fatalf("%v", err)
	return 0
}

func guest(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	want, args := status(ts, args)
	usage(ts, len(args) >= 2, "guest [-status N] NAME COMMAND…")
	if got := bedOf(ts).in(ts, args[0], args[1:]...); got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

// script runs a file of the archive, for commands can not have more than a
// line.
func script(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	want, args := status(ts, args)
	usage(ts, len(args) >= 2, "script [-status N] NAME FILE [ARGUMENT…]")
	if got := bedOf(ts).in(ts, args[0], append([]string{"sh", "-c", ts.ReadFile(args[1])}, args[1:]...)...); got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

// status takes the wanted exit status off a command's arguments.
func status(ts *testscript.TestScript, args []string) (want int, rest []string) {
	if len(args) < 2 || args[0] != "-status" {
		return 0, args
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	return want, args[2:]
}

// patience is how long until waits.
const patience = 30 * time.Second

func until(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) >= 2, "until NAME COMMAND…")
	for start := time.Now(); bedOf(ts).in(ts, args[0], args[1:]...) != 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > patience {
			ts.Fatalf("still fails after %s", patience)
		}
	}
}

func stats(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 0, "stats")
	b := bedOf(ts)
	ts.Check(ts.Exec(b.program("stork-testbed"), "stats", "--dir", b.dir, "--json"))
}

func size(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 2, "size VARIABLE FILE")
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], strconv.FormatInt(info.Size(), 10))
}
