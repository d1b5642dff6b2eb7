package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"stork/nestd/api"
	"stork/repo"
)

// TestMain lets this test binary be nestd and its children.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == fetcherCommand || os.Args[1] == unpackerCommand) {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"nestd": func() {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		status := Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	}})
}

// TestScripts runs the whole program against a repository that has a root
// and nothing else; package nest tests what a whole one leads to.
func TestScripts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("needs root")
	}
	root := []byte("the first root")
	mux := http.NewServeMux()
	mux.HandleFunc("/metadata/1.root.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(root)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("NESTD_DIR", env.WorkDir+"/nest")
			env.Setenv("URL", server.URL)
			env.Setenv("ROOT", repo.DigestOf(root).String())
			env.Setenv("OTHER", repo.DigestOf(nil).String())
			return nil
		},
		Condition:           func(string) (bool, error) { return false, nil },
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// status N nestd …: runs it and wants that exit status.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				got := "0"
				if code, ok := err.(interface{ ExitCode() int }); ok {
					got = string(rune('0' + code.ExitCode()))
				}
				if got != args[0] {
					ts.Fatalf("exit status %s, want %s", got, args[0])
				}
			},
		},
	})
}

// TestExitStatuses holds the table to what the help promises.
func TestExitStatuses(t *testing.T) {
	t.Parallel()
	for code, want := range map[api.Code]int{
		api.BadRequest: 2, api.NotFound: 4, api.Conflict: 5, api.Unreachable: 6, api.Untrusted: 7, api.Expired: 7,
		api.NoSpace: 8, api.InternalCode: 1, api.Malformed: 1, api.Unsupported: 1,
	} {
		if got := explain(&api.Error{Code: code, Message: "x"}).Status; got != want {
			t.Errorf("%s: exit status %d, want %d", code, got, want)
		}
	}
}
