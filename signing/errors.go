package signing

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/signing/trust"
)

// What can be wrong with a repository; see [trust.ErrExpired] and the others.
var (
	ErrExpired   = trust.ErrExpired
	ErrUntrusted = trust.ErrUntrusted
	ErrMissing   = trust.ErrMissing
)

func untrusted(format string, args ...any) error { return trust.Untrusted(format, args...) }

// CheckExpiry returns an error that wraps ErrExpired if now is after expires.
func CheckExpiry(what string, expires, now time.Time) error {
	return trust.CheckExpiry(what, expires, now)
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
