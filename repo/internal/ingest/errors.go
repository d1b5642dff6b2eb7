package ingest

import (
	"errors"
	"fmt"

	"stork/repo"
)

// What can be wrong with an upload, besides what signing, author and rpmfile
// say of roles and packages.
var (
	// ErrBadRequest: the request is not what the protocol says.
	ErrBadRequest = errors.New("bad upload")
	// ErrTooLarge: a limit of this repository.
	ErrTooLarge = errors.New("too large")
	// ErrNoSpace: the repository's disk has no room for it.
	ErrNoSpace = errors.New("no space")
	// ErrNoSession: there is no such session, or no more.
	ErrNoSession = errors.New("no such upload")
	// ErrBusy: others are uploading, or this session is being committed.
	ErrBusy = errors.New("busy")
	// ErrIncomplete: a declared object has not arrived.
	ErrIncomplete = errors.New("the upload is incomplete")
	// ErrMismatch: content does not have its digest, or a record, file list
	// or index is not what this repository builds from the same packages.
	ErrMismatch = errors.New("mismatch")
	// ErrRetracted: a published package is missing from the new index, or
	// has changed.
	ErrRetracted = errors.New("what is published stays as it is")
	// ErrUnsupported: a kind of target that this repository can not check.
	ErrUnsupported = errors.New("unsupported")
)

func badRequest(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadRequest, fmt.Sprintf(format, args...))
}

func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMismatch, fmt.Sprintf(format, args...))
}

func missing(what string, d repo.Digest) error {
	return fmt.Errorf("%w: %s %s is not here", ErrIncomplete, what, d)
}
