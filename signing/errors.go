package signing

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/theupdateframework/go-tuf/v2/metadata"
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

// untrusted reports a broken chain.
func untrusted(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUntrusted, fmt.Sprintf(format, args...))
}

// guard runs f, which calls go-tuf, and turns its errors into ours and its
// panics (it dereferences what a hostile file left null) into errors.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = untrusted("malformed metadata: %v", r)
		}
	}()
	err = f()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrExpired), errors.Is(err, ErrUntrusted), errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return fmt.Errorf("%w: %v", ErrExpired, err)
	default:
		return untrusted("%v", err)
	}
}
