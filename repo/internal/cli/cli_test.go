package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"stork/repo"
	"stork/repo/durable"
	"stork/repo/internal/cli"
	"stork/signing/author"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"stork-repo": func() {
			os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// process returns the real program, to be run by the test binary itself.
func process(args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"stork-repo"}, args...), Stderr: os.Stderr}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"keys": writeKeys, "status": status, "flip": flip,
		},
		RequireExplicitExec: true,
	})
}

// writeKeys is "keys NAME FILE": what stork key new makes for an operator.
func writeKeys(ts *testscript.TestScript, _ bool, args []string) {
	name, dir := repo.Publisher(args[0]), ts.MkAbs("identities")
	var identities []*author.Identity
	for _, role := range []repo.Role{name.PublisherRole(), name.OwnerRole()} {
		identity, err := author.CreateIdentity(durable.Disk{}, dir, role, time.Now())
		ts.Check(err)
		identities = append(identities, identity)
	}
	b, err := author.EncodeBundle(identities...)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}

// status is "status N COMMAND…": the command must exit with that status.
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = err.Error()
	}
	if want := args[0]; got != want && got != "exit status "+want {
		ts.Fatalf("%v ended with %s, want %s", args[1:], got, want)
	}
}

// flip is "flip FILE": one bit in its middle changes.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}
