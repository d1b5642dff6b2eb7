package trust

import (
	"errors"
	"fmt"
	"time"
)

// What can be wrong with a repository. That a role or target is not
// published wraps [fs.ErrNotExist]; errors of a [Source] stay as they are.
var (
	// ErrExpired: metadata was truly signed, but is too old by the clock.
	ErrExpired = errors.New("the metadata has expired")
	// ErrUntrusted: a signature, threshold, pin, digest, version or field is
	// not what the chain from the pin demands.
	ErrUntrusted = errors.New("the repository can not be trusted")
	// ErrMissing: the repository lacks a file that it must have, or that its
	// own signed metadata names.
	ErrMissing = errors.New("the repository lacks a file")
)

// Untrusted reports a broken chain.
func Untrusted(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUntrusted, fmt.Sprintf(format, args...))
}

// CheckExpiry returns an error that wraps ErrExpired if now is after expires.
func CheckExpiry(what string, expires, now time.Time) error {
	if now.After(expires) {
		return fmt.Errorf("%w: %s expired at %s", ErrExpired, what, expires.UTC().Format(time.RFC3339))
	}
	return nil
}
