package guest

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"stork/client"
	"stork/client/catalog"
	"stork/client/change"
	"stork/client/pins"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo/program"
	"stork/signing/trust"
)

// Exit statuses beyond those that every program has. They are documented in
// the help and in docs/api.md, and only ever added to.
const (
	ExitNotFound    = 3 // no such package
	exitUnsolvable  = 4
	exitUntrusted   = 5
	exitUnreachable = 6
	exitNoSpace     = 7
	exitBusy        = 8
	exitConflict    = 9
	exitScriptlet   = 10
)

// Explain maps an error of the domain to exit status and hint.
func Explain(err error) *program.Error {
	for _, known := range []func(error) (int, string, bool){explainWire, explainSolver, explainTrust, explainGuest} {
		if status, hint, ok := known(err); ok {
			return &program.Error{Status: status, Hint: hint, Err: err}
		}
	}
	return nil
}

// explainWire maps what the nest answered.
func explainWire(err error) (int, string, bool) {
	if errors.Is(err, client.ErrDown) {
		return exitUnreachable, "What is installed keeps working. On the host, `nestd status` says whether the nest runs.", true
	}
	var wire *api.Error
	if !errors.As(err, &wire) {
		return 0, "", false
	}
	status, ok := map[api.Code]int{
		api.NotFound: ExitNotFound, api.NotEntitled: exitUntrusted, api.Untrusted: exitUntrusted,
		api.Expired: exitUntrusted, api.Malformed: exitUntrusted, api.Unreachable: exitUnreachable,
		api.Interrupted: exitUnreachable, api.NotAttached: exitUnreachable, api.NoSpace: exitNoSpace,
	}[wire.Code]
	if !ok {
		status = program.Failed
	}
	return status, wire.Hint, true
}

// explainSolver maps what the solver answered: a package that is not there
// at all, or demands that exclude each other.
func explainSolver(err error) (int, string, bool) {
	var unsolvable *solve.Unsolvable
	if !errors.As(err, &unsolvable) {
		return 0, "", false
	}
	if len(unsolvable.WouldRemove) > 0 {
		return exitUnsolvable, "Give --allow-erasing to let " + packageNames(unsolvable.WouldRemove) + " go.", true
	}
	for _, problem := range unsolvable.Problems {
		for _, line := range problem.Lines {
			switch line.Kind {
			case solve.NoMatch, solve.NotInstalled, solve.WrongArch:
				return ExitNotFound, "`stork search WORD` looks for packages of those whom this guest's owner trusts.", true
			}
		}
	}
	return exitUnsolvable, "", true
}

// explainTrust maps what does not verify.
func explainTrust(err error) (int, string, bool) {
	switch {
	case errors.Is(err, change.ErrRefused):
		return exitUntrusted, "`stork trust explain PACKAGE` shows the rules; the guest's owner can change them with `stork trust allow`.", true
	case errors.Is(err, catalog.ErrNoPolicy):
		return exitUntrusted, "The owner publishes one with `stork trust allow PUBLISHER --key sha256:… --as OWNER`.", true
	case errors.Is(err, trust.ErrExpired):
		return exitUntrusted, "Check the clock, and that the repository is reached: `stork status`. What is installed keeps working.", true
	case errors.Is(err, trust.ErrUntrusted), errors.Is(err, trust.ErrMissing):
		return exitUntrusted, "Nothing was changed. Tell the repository's operator.", true
	case errors.Is(err, pins.ErrNone):
		return exitUntrusted, "Bind the directory that `nestd guest add` printed to /run/stork, or pin by hand: `stork pin URL --root sha256:… --owner sha256:…`.", true
	}
	return 0, "", false
}

// explainGuest maps what is in the way in the guest itself.
func explainGuest(err error) (int, string, bool) {
	var busy *transaction.BusyError
	var conflict *share.ConflictError
	var able *change.AbleError
	switch {
	case errors.As(err, &busy):
		return exitBusy, "Wait until it is done, then try again.", true
	case errors.Is(err, transaction.ErrChanging):
		return exitBusy, "Try again when it is done; what was interrupted is finished by the next command that changes something, or by `stork mount`.", true
	case errors.As(err, &able):
		return program.Failed, "`stork method auto` leaves it to stork.", true
	case errors.As(err, &conflict):
		return exitConflict, "Nothing was changed. Move the file away, or do without the package.", true
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return exitNoSpace, "Free some space and try again.", true
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return program.Failed, "Only the guest's root can change it.", true
	}
	return 0, "", false
}
