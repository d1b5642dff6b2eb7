package api

import "net/http"

// Code says what kind of error happened. Codes are only ever added.
type Code string

// The codes.
const (
	BadRequest   Code = "bad-request"  // the request itself is wrong
	NotFound     Code = "not-found"    // no such guest, package, document or repository
	NotEntitled  Code = "not-entitled" // the guest may not have that, or may not ask it
	Untrusted    Code = "untrusted"    // a signature, digest or name does not verify
	Expired      Code = "expired"      // metadata is too old to be trusted
	Unreachable  Code = "unreachable"  // the repository or a mirror can not be reached
	NoSpace      Code = "no-space"     // disk or quota is full
	TooLarge     Code = "too-large"    // over a size limit
	Malformed    Code = "malformed"    // a package or document can not be read
	Unsupported  Code = "unsupported"  // needs something that this host or version has not
	Conflict     Code = "conflict"     // exists already, or is in use
	NotAttached  Code = "not-attached" // the guest's view can not be reached
	Interrupted  Code = "interrupted"  // the nest is stopping
	InternalCode Code = "internal"     // a defect or an unforeseen failure of the host
)

// Error is how every failed request answers, and what [Event] carries when a
// long one fails.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`        // "cannot <verb> <object>: cause"
	Hint    string `json:"hint,omitempty"` // what to do next, a sentence
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Status returns the HTTP status that goes with the code.
func (c Code) Status() int {
	switch c {
	case BadRequest, Malformed, TooLarge:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case NotEntitled:
		return http.StatusForbidden
	case Untrusted, Expired:
		return http.StatusUnprocessableEntity
	case Unreachable, Interrupted, NotAttached:
		return http.StatusServiceUnavailable
	case NoSpace:
		return http.StatusInsufficientStorage
	case Unsupported:
		return http.StatusNotImplemented
	case Conflict:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
