package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Source brings files of a repository's static tree.
type Source interface {
	// Fetch returns the file at path, a slash-separated path of
	// repo/layout.go. It reads no more than max bytes and fails if there are
	// more. The error for an absent file wraps fs.ErrNotExist, and no other
	// does. It is called by one goroutine at a time, and must give up when
	// ctx ends: slow retrieval is the source's to prevent.
	Fetch(ctx context.Context, path string, max int64) ([]byte, error)
}

// Dir is a Source that reads a repository's tree, or a mirror of it, from a
// directory.
type Dir string

// Fetch implements [Source].
func (d Dir) Fetch(_ context.Context, path string, max int64) ([]byte, error) {
	local, err := filepath.Localize(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", path, err)
	}
	f, err := os.Open(filepath.Join(string(d), local))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("cannot read %s: over %d bytes", path, max)
	}
	return b, nil
}

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
