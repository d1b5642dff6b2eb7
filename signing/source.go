package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"stork/signing/trust"
)

// Source brings files of a repository's static tree.
type Source = trust.Source

// Dir is a Source that reads a repository's tree, or a mirror of it, from a
// directory.
type Dir = trust.Dir

// fetch brings a file that must be there.
func fetch(ctx context.Context, src Source, path string, max int64) ([]byte, error) {
	b, err := fetchOptional(ctx, src, path, max)
	if errors.Is(err, fs.ErrNotExist) {
		// Not wrapped: only a role or target that is not published may look
		// like fs.ErrNotExist to our callers.
		return nil, fmt.Errorf("%w: %s", ErrMissing, path)
	}
	return b, err
}

// fetchOptional brings a file that may be absent.
func fetchOptional(ctx context.Context, src Source, path string, max int64) ([]byte, error) {
	b, err := src.Fetch(ctx, path, max)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", path, err)
	}
	if int64(len(b)) > max {
		return nil, untrusted("%s has over %d bytes", path, max)
	}
	return b, nil
}
