package cli

import (
	"errors"
	"io/fs"

	"stork/repo/internal/home"
	"stork/repo/program"
)

// Exit statuses beyond those that every program has. They are documented in
// the help and in docs/operations.md, and only ever added to.
const (
	exitProblems = 3
	exitExpiring = 4
	exitNoKeys   = 5
	exitState    = 6
)

// errNoKeys says that the directory with the offline keys is not there.
var errNoKeys = errors.New("the offline keys are not at hand")

// explain maps an error of the domain to exit status and hint.
func explain(err error) *program.Error {
	for _, known := range []struct {
		err    error
		status int
		hint   string
	}{
		{errNoKeys, exitNoKeys, "Attach the medium that holds them, or say where they are: --keys DIR."},
		{home.ErrNone, exitState, "Make one with `stork-repo init DIR --keys OFFLINE_DIR`, or say where it is: --dir DIR."},
		{home.ErrServed, exitState, "Stop the other one first."},
		{fs.ErrExist, exitState, ""},
		{fs.ErrNotExist, exitState, ""},
	} {
		if errors.Is(err, known.err) {
			return &program.Error{Status: known.status, Hint: known.hint, Err: err}
		}
	}
	return nil
}
