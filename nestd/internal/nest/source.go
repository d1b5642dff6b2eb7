package nest

import (
	"context"
	"sync"

	"stork/nestd/internal/fetch"
	"stork/repo"
)

// fetched is a metadata file as one refresh has seen it.
type fetched struct {
	content  []byte
	verified bool
}

// recorder is the signing.Source of one refresh. Immutable files that were
// verified before come from the mirror, all others from the repository; it
// keeps everything for the mirror. When the refresh is over it is closed:
// whoever looks something up in the snapshot later finds what was verified, and
// waits for no repository.
type recorder struct {
	fetcher *fetch.Fetcher
	baseURL string
	mirror  *mirror

	mu   sync.Mutex
	seen map[string]fetched // nil: closed
}

// close forgets what was seen.
func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// Fetch implements signing.Source.
func (r *recorder) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		return nil, absent(path)
	}
	if f, ok := r.seen[path]; ok && int64(len(f.content)) <= max {
		return f.content, nil
	}
	b, held := r.mirror.verified(path)
	if !held || int64(len(b)) > max {
		var err error
		if b, err = r.fetcher.Get(ctx, r.baseURL, path, max); err != nil {
			return nil, err
		}
	}
	r.seen[path] = fetched{content: b}
	return b, nil
}

// files returns everything that was seen, and everything that files names,
// which is verified. What signing had no need to read again comes from the
// mirror or the repository.
func (r *recorder) files(ctx context.Context, verified []string) (map[string]fetched, error) {
	for _, path := range verified {
		b, err := r.Fetch(ctx, path, repo.MaxTargets)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.seen[path] = fetched{content: b, verified: true}
		r.mu.Unlock()
	}
	return r.seen, nil
}
