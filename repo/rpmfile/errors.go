package rpmfile

import (
	"errors"
	"fmt"
)

// The kinds of errors that a package itself can cause; any other error came
// from the stream or the sink.
var (
	// ErrMalformed: the package is damaged, truncated, or says two things at
	// once.
	ErrMalformed = errors.New("malformed package")
	// ErrUnsupported: the package is well formed, but needs something that
	// Stork does not do.
	ErrUnsupported = errors.New("unsupported package")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsupported, fmt.Errorf(format, args...))
}

// guard turns a panic, which only a defect of ours or of a library can cause,
// into an error: a hostile package must not end the process that reads it.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = malformed("reading it failed: %v", p)
	}
}
