package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"stork/client/catalog"
	"stork/client/scriptlet/lua"
	"stork/nestd/api"
	"stork/repo/durable"
	"stork/repo/program"
)

// quick is the command line of [Run]: that of the whole program, as far as it
// goes.
type quick struct {
	program.Common
	Place
	Changes
}

// Run is the program: it returns the exit status. What it can not do it leaves
// to whole, which does not return unless it fails.
func Run(ctx context.Context, args []string, streams program.Streams, whole func() error) int {
	if len(args) > 0 && args[0] == lua.Command {
		return lua.Main(args[1:])
	}
	if !mayDo(args) {
		return failed(streams, whole())
	}
	var left error
	g := new(quick)
	status := program.Run(ctx, program.Spec{
		Name: "stork", Grammar: g, Explain: Explain,
		Bind: []any{&g.Place, &Environment{
			Now:    time.Now,
			Verify: func(context.Context, catalog.Request) (*catalog.Verdict, error) { return nil, catalog.ErrUnknown },
			Alone:  func(string, *api.Pins, durable.Disk) (Host, error) { return nil, catalog.ErrUnknown },
		}},
		Leave: func(err error) bool {
			if errors.Is(err, catalog.ErrUnknown) {
				left = err
			}
			return left != nil
		},
	}, args, streams)
	if left != nil {
		return failed(streams, whole())
	}
	return status
}

// mayDo reports whether a command line is worth trying: one of those that this
// program has, in a guest that has verified something before.
func mayDo(args []string) bool {
	if len(args) == 0 || os.Getenv("COMP_LINE") != "" {
		return false
	}
	for _, flag := range []string{"-h", "--help", "--man", "--version"} {
		if slices.Contains(args, flag) {
			return false
		}
	}
	switch args[0] {
	case "remove":
		return true
	case "install", "upgrade":
		root := os.Getenv("STORK_SYSROOT")
		_, err := os.Stat(filepath.Join("/", root, statePath, trustName))
		return err == nil
	}
	return false
}

func failed(streams program.Streams, err error) int {
	fmt.Fprintf(streams.Err, "stork: %v\n", err)
	return program.Failed
}

// Whole replaces this process by the whole program, which lies beside it.
func Whole() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), api.WholeName)
	err = syscall.Exec(path, os.Args, os.Environ())
	return fmt.Errorf("cannot run %s, which has what this program lacks: %w", path, err)
}
