package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
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
