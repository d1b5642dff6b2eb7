package cli

import (
	"errors"

	"stork/client"
	"stork/nestd/api"
	"stork/nestd/internal/machine"
	"stork/nestd/internal/nest"
	"stork/nestd/store"
	"stork/repo/program"
)

// Exit statuses beyond those of every program.
const (
	exitDown        = 3
	exitNotFound    = 4
	exitConflict    = 5
	exitUnreachable = 6
	exitUntrusted   = 7
	exitNoSpace     = 8
	exitDamaged     = 9
)

// explain maps errors to exit statuses and says what to do next.
func explain(err error) *program.Error {
	switch {
	case errors.Is(err, client.ErrDown):
		return &program.Error{Status: exitDown, Err: err, Hint: "Start the daemon with 'nestd run', or give its directory with --dir."}
	case errors.Is(err, store.ErrBusy):
		return &program.Error{Status: exitConflict, Err: err, Hint: "Another nestd runs in this directory: stop it first."}
	}
	if errors.Is(err, machine.ErrInUse) {
		return &program.Error{Status: exitConflict, Err: err, Hint: "Another 'nestd guest vm' serves this machine: stop it first."}
	}
	wire := nest.Explain(err)
	return &program.Error{Status: statusOf(wire.Code), Err: err, Hint: hintOf(wire)}
}

// hintOf leaves out the hint that sends the operator to where he is.
func hintOf(wire *api.Error) string {
	if wire.Code == api.InternalCode {
		return ""
	}
	return wire.Hint
}

func statusOf(code api.Code) int {
	switch code {
	case api.NotFound:
		return exitNotFound
	case api.Conflict:
		return exitConflict
	case api.Unreachable:
		return exitUnreachable
	case api.Untrusted, api.Expired:
		return exitUntrusted
	case api.NoSpace:
		return exitNoSpace
	case api.BadRequest:
		return program.Usage
	}
	return program.Failed
}
