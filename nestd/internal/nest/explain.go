package nest

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/signing"
)

// What the core itself finds wrong.
var (
	errBadRequest  = errors.New("bad request")
	errTooMany     = errors.New("too many at once")
	errTooLarge    = errors.New("too large")
	errUnknown     = errors.New("unknown")
	errNotAdmitted = errors.New("not admitted")
	errMalformed   = errors.New("malformed")
	errMismatch    = errors.New("not what the publisher has signed")
	errInUse       = errors.New("in use")
	errConflict    = errors.New("one of them can be installed, not both")
)

// explanations put errors in the protocol's words, the first that matches.
var explanations = []struct {
	err  error
	code api.Code
	hint string
}{
	{context.Canceled, api.Interrupted, "The nest is stopping: try again when it runs."},
	{unix.ENOSPC, api.NoSpace, "Free space on the host's disk, then try again."},
	{unix.EDQUOT, api.NoSpace, "Raise the quota on the host's disk, then try again."},
	{fetch.ErrNoSpace, api.NoSpace, "Free space on the host's disk, then try again."},
	{state.ErrFull, api.NoSpace, "Free space on the host's disk, then try again."},
	{errBadRequest, api.BadRequest, ""},
	{state.ErrBadQuery, api.BadRequest, ""},
	{errTooMany, api.TooLarge, "Ask for fewer at a time."},
	{errTooLarge, api.TooLarge, ""},
	{fetch.ErrTooLarge, api.TooLarge, ""},
	{store.ErrTooLarge, api.TooLarge, "Use another share method, or fewer packages."},
	{store.ErrAlias, api.BadRequest, ""},
	{attach.ErrNotEntitled, api.NotEntitled, ""},
	{errNotAdmitted, api.NotEntitled, "The index has changed, or the package never was in it: run the command again."},
	{attach.ErrNotAttached, api.NotAttached, ""},
	{attach.ErrUnsupported, api.Unsupported, ""},
	{errMismatch, api.Untrusted, "What the publisher signed does not describe the package: tell the publisher."},
	{fetch.ErrMismatch, api.Untrusted, "The repository, or something between, serves damaged content: tell its operator."},
	{unpack.ErrBlob, api.Untrusted, "The spooled copy was damaged: try again."},
	{unpack.ErrPackage, api.Malformed, "Tell the package's publisher."},
	{store.ErrContent, api.Malformed, "Tell the package's publisher."},
	{errMalformed, api.Malformed, "Tell the package's publisher."},
	{signing.ErrExpired, api.Expired, "The repository's operator or publisher has to sign anew."},
	{signing.ErrUntrusted, api.Untrusted, "Tell the repository's operator."},
	{signing.ErrMissing, api.Untrusted, "Tell the repository's operator."},
	{fetch.ErrUnreachable, api.Unreachable, "Check the network between this host and the repository, then try again."},
	{state.ErrExists, api.Conflict, ""},
	{errInUse, api.Conflict, ""},
	{errConflict, api.Conflict, "Remove one of the two packages."},
	{attach.ErrTarget, api.Conflict, ""},
	{attach.ErrNoLayer, api.NotFound, "Prepare the package again."},
	{errUnknown, api.NotFound, ""},
	{state.ErrNotFound, api.NotFound, ""},
}

// Explain puts err in the protocol's words. It is the one place where codes
// are chosen.
func Explain(err error) *api.Error {
	var wire *api.Error
	if errors.As(err, &wire) {
		return wire
	}
	for _, e := range explanations {
		if errors.Is(err, e.err) {
			return &api.Error{Code: e.code, Message: err.Error(), Hint: e.hint}
		}
	}
	return &api.Error{Code: api.InternalCode, Message: err.Error(), Hint: "See the log of nestd on the host."}
}
