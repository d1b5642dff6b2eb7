package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// proof is an index.Source of what the nest holds; it collects what is read.
type proof struct {
	nest *Nest
	seen map[repo.Digest][]byte
	list [][]byte
}

// Document implements index.Source.
func (p *proof) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	if b, ok := p.seen[o.Digest]; ok {
		return b, nil
	}
	b, err := p.nest.heldDocument(ctx, o.Digest)
	if err != nil {
		return nil, err
	}
	p.seen[o.Digest] = b
	p.list = append(p.list, b)
	return b, nil
}

// addDocuments adds to an answer what verifies its entries, if these are few.
func (n *Nest) addDocuments(ctx context.Context, request api.QueryRequest, response *api.QueryResponse) error {
	entries := 0
	for _, result := range response.Results {
		entries += len(result.Entries)
	}
	if entries > api.FewEntries {
		return nil
	}
	p := &proof{nest: n, seen: map[repo.Digest][]byte{}}
	for i, result := range response.Results {
		for _, raw := range result.Entries {
			if err := p.add(ctx, request.Queries[i].Index, raw); err != nil {
				return fmt.Errorf("cannot gather what verifies an index entry: %w", err)
			}
		}
	}
	response.Documents = p.list
	return nil
}

// add reads the way from an index root, which the guest has, to one entry and
// its record.
func (p *proof) add(ctx context.Context, root repo.Digest, raw []byte) error {
	var entry index.Entry
	if err := repo.DecodeStrict(raw, &entry); err != nil {
		return err
	}
	if _, ok := p.seen[root]; !ok {
		b, err := p.nest.heldDocument(ctx, root)
		if err != nil {
			return ignoreAbsent(err)
		}
		p.seen[root] = b
	}
	if _, err := index.Lookup(ctx, p, repo.Object{Digest: root}, entry.Name); err != nil {
		return ignoreAbsent(err)
	}
	_, err := p.Document(ctx, entry.Record)
	return ignoreAbsent(err)
}

// ignoreAbsent: what is not held, the guest asks for.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
