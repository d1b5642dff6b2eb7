package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"stork/nestd/api"
	"stork/repo"
)

// Repository reads one repository's static tree through the nest. It is a
// signing.Source and an index.Source, and safe for concurrent use.
//
// The first root that is asked for brings with it, in the same round trip,
// what verifying usually asks for next. Each of these files is handed out
// once: whoever asks again wants to know how it is now.
type Repository struct {
	caller *caller
	root   repo.Digest

	mu      sync.Mutex                // guards what follows
	asked   bool                      // whether ahead was brought
	ahead   map[string]*api.TrustFile // by path
	digest  repo.Digest               // of all that was brought
	besides bool                      // something else was asked for, that is not named by its content
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
	file, err := r.take(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", path, err)
	}
	switch {
	case file == nil:
		return r.get(ctx, path, max)
	case file.Absent:
		return nil, fmt.Errorf("cannot fetch %s: %w", path, fs.ErrNotExist)
	case int64(len(file.Content)) > max:
		return nil, fmt.Errorf("cannot fetch %s: %w of %d bytes", path, errTooLarge, max)
	}
	return file.Content, nil
}

// take returns a file that came ahead, nil if it did not.
func (r *Repository) take(ctx context.Context, path string) (*api.TrustFile, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked && strings.HasSuffix(path, ".root.json") {
		if _, err := r.bring(ctx, repo.Digest{}); err != nil {
			return nil, err
		}
	}
	file := r.ahead[path]
	delete(r.ahead, path)
	r.besides = r.besides || file == nil && !repo.IsDataPath(path)
	return file, nil
}

// Known asks for the files that come ahead and reports whether these are the
// ones of that digest. Then only the documents among them have come.
func (r *Repository) Known(ctx context.Context, digest repo.Digest) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bring(ctx, digest)
}

// Brought returns the digest of the files that came ahead, and false if others
// were asked for besides.
func (r *Repository) Brought() (repo.Digest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.digest, !r.besides && !r.digest.IsZero()
}

// bring asks for the files that come ahead. That the nest has no answer to
// that is no error: everything can be asked for by its path.
func (r *Repository) bring(ctx context.Context, known repo.Digest) (same bool, err error) {
	route := api.TrustRoute + r.root.Hex()
	if !known.IsZero() {
		route += "?known=" + known.Hex()
	}
	var trust api.Trust
	var wire *api.Error
	err = r.caller.call(ctx, http.MethodGet, route, nil, &trust)
	if err != nil && !errors.As(err, &wire) {
		return false, err
	}
	same = trust.Same && !known.IsZero()
	r.asked, r.digest, r.ahead = !same, repo.Digest{}, map[string]*api.TrustFile{}
	if !same && len(trust.Files) > 0 {
		r.digest = trust.Digest()
	}
	for i := range trust.Files {
		r.ahead[trust.Files[i].Path] = &trust.Files[i]
	}
	return same, nil
}

// get asks for one file.
func (r *Repository) get(ctx context.Context, path string, max int64) ([]byte, error) {
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
