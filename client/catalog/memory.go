package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"stork/repo"
	"stork/signing/trust"
)

// memory checks every document against the digest that names it, whoever
// brought it, and keeps those that were read in this run, so that index root
// and tables are read once however many packages are checked. What a run
// reads is bounded by what it installs.
type memory struct {
	Files
	documents map[repo.Digest][]byte
}

func remember(f Files) *memory { return &memory{f, map[repo.Digest][]byte{}} }

// keep takes documents that came unasked. Whatever they are, they are only
// found by who asks for their digest.
func (m *memory) keep(documents [][]byte) {
	for _, b := range documents {
		m.documents[repo.DigestOf(b)] = b
	}
}

// has reports whether a document need not be asked for.
func (m *memory) has(object repo.Object) bool {
	b, ok := m.documents[object.Digest]
	return ok && int64(len(b)) == object.Size
}

// Document implements [index.Source]. A signed document that is not there is
// [trust.ErrMissing]: whoever serves the repository withholds it, which must
// not look as if it had never been published.
func (m *memory) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	if m.has(object) {
		return m.documents[object.Digest], nil
	}
	b, err := m.Files.Document(ctx, object)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: document %s", trust.ErrMissing, object.Digest)
	case err != nil:
		return nil, err
	case repo.ObjectOf(b) != object:
		return nil, fmt.Errorf("%w: document %s came with other content", trust.ErrUntrusted, object.Digest)
	}
	m.documents[object.Digest] = b
	return b, nil
}
