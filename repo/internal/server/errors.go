package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"time"

	"stork/nestd/api"
	"stork/repo/internal/ingest"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/author"
)

// meanings maps errors of the domain to codes, the first that matches.
var meanings = []struct {
	err  error
	code api.Code
	hint string
}{
	{ingest.ErrTooLarge, api.TooLarge, "Publish in several smaller steps, or ask the repository's operator for a higher limit."},
	{ingest.ErrNoSpace, api.NoSpace, "Tell the repository's operator."},
	{syscall.ENOSPC, api.NoSpace, "Tell the repository's operator."},
	{syscall.EDQUOT, api.NoSpace, "Tell the repository's operator."},
	{ingest.ErrNoSession, api.NotFound, "Begin the upload again: what has arrived is kept."},
	{ingest.ErrBusy, api.Conflict, "Wait until it is done, then try again."},
	{ingest.ErrIncomplete, api.Conflict, "Send what is missing, then commit again; if nothing is, begin the upload again."},
	{ingest.ErrRetracted, api.Conflict, ""},
	{ingest.ErrUnsupported, api.Unsupported, ""},
	{rpmfile.ErrUnsupported, api.Unsupported, ""},
	{rpmfile.ErrMalformed, api.Malformed, ""},
	{ingest.ErrMismatch, api.Untrusted, "Build and sign the index again with a stork of this repository's version."},
	{ingest.ErrBadRequest, api.BadRequest, ""},
	{signing.ErrExpired, api.Expired, "Sign again; if it is the key document that expired, give the operator a new one."},
	{signing.ErrUntrusted, api.Untrusted, "Ask the repository's operator whether your newest key document is there: stork-repo publisher list."},
	{os.ErrDeadlineExceeded, api.Interrupted, "The connection was too slow; what arrived whole is kept."},
	{context.Canceled, api.Interrupted, "Try again: what has arrived is kept."},
	{context.DeadlineExceeded, api.Interrupted, "Try again: what has arrived is kept."},
}

// wireError makes a wire error of an error of the domain. What it does not
// know is the server's own failure, and says nothing of its inside.
func wireError(err error) *api.Error {
	var told *api.Error
	if errors.As(err, &told) {
		return told
	}
	var version *author.VersionError
	if errors.As(err, &version) {
		return &api.Error{Code: api.Conflict, Message: version.Error(), Hint: "Read the role's newest version and sign the one after it."}
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return &api.Error{Code: m.code, Message: err.Error(), Hint: m.hint}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Code: api.NotFound, Message: "cannot find the publisher among this repository's", Hint: "The operator adds it: stork-repo publisher add NAME FILE."}
	}
	return &api.Error{Code: api.InternalCode, Message: "the repository failed", Hint: "Try again; if it stays so, tell the repository's operator, whose log says more."}
}

// fail answers with an error, and logs what is the server's own.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	wire := wireError(err)
	if wire.Code == api.InternalCode || wire.Code == api.NoSpace {
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
	} else {
		s.log.Info("request refused", "path", r.URL.Path, "code", wire.Code, "err", err)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.Grace))
	writeError(w, wire)
}

func writeError(w http.ResponseWriter, e *api.Error) { writeJSON(w, e.Code.Status(), e) }
