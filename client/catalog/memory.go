package catalog

import (
	"context"

	"stork/repo"
)

// memory keeps the documents that were read in this run, so that index root
// and tables are read once however many packages are checked. What a run
// reads is bounded by what it installs.
type memory struct {
	Files
	documents map[repo.Digest][]byte
}

func remember(f Files) Files { return &memory{f, map[repo.Digest][]byte{}} }

// Document implements [index.Source].
func (m *memory) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	if b, ok := m.documents[object.Digest]; ok && int64(len(b)) == object.Size {
		return b, nil
	}
	b, err := m.Files.Document(ctx, object)
	if err == nil {
		m.documents[object.Digest] = b
	}
	return b, err
}
