package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"stork/nestd/api"
	"stork/repo"
)

// Repository reads one repository's static tree through the nest. It is a
// signing.Source and an index.Source, and safe for concurrent use.
type Repository struct {
	caller *caller
	root   repo.Digest
}

// Repository returns the repository with that first root.
func (n *Nest) Repository(root repo.Digest) *Repository {
	return &Repository{caller: n.caller, root: root}
}

// Fetch reads the file at path (repo/layout.go), of at most max bytes. A file
// that is not there is [fs.ErrNotExist].
func (r *Repository) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if strings.Contains(path, "..") {
		return nil, fmt.Errorf("cannot fetch %q: not a path in a repository", path)
	}
	answer, err := r.caller.open(ctx, http.MethodGet, api.RepositoriesRoute+r.root.Hex()+"/"+path, nil)
	var wire *api.Error
	if errors.As(err, &wire) && wire.Code == api.NotFound {
		return nil, fmt.Errorf("cannot fetch %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.ContentLength > max {
		return nil, fmt.Errorf("cannot fetch %s: %w of %d bytes", path, errTooLarge, max)
	}
	b, err := readBounded(answer.Body, max)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("cannot fetch %s: %w of %d bytes", path, err, max)
	}
	if err != nil {
		return nil, r.caller.transportError(ctx, err)
	}
	return b, nil
}

// Document reads the document that object names and checks that it is that
// one.
func (r *Repository) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	b, err := r.Fetch(ctx, repo.DataPath(object.Digest), object.Size)
	if err != nil {
		return nil, err
	}
	if repo.ObjectOf(b) != object {
		return nil, fmt.Errorf("cannot fetch document %s: the nest sent other content", object.Digest)
	}
	return b, nil
}
