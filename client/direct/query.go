package direct

import (
	"context"
	"encoding/json"
	"fmt"

	"stork/client/catalog"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// Query implements [catalog.Origin]: it reads all shards and looks through
// them. The index roots are those that the caller has verified.
func (o *Origin) Query(ctx context.Context, request api.QueryRequest) (*api.QueryResponse, error) {
	response := new(api.QueryResponse)
	for _, q := range request.Queries {
		entries, err := o.index(ctx, q.Index)
		if err != nil {
			return nil, err
		}
		result, err := answer(entries, q)
		if err != nil {
			return nil, err
		}
		response.Results = append(response.Results, result)
	}
	return response, nil
}

// index returns all entries of an index. Its root was read by whoever
// verified it, so it is among the kept documents.
func (o *Origin) index(ctx context.Context, root repo.Digest) ([]index.Entry, error) {
	if entries, ok := o.entries[root]; ok {
		return entries, nil
	}
	object, source, err := o.locate(ctx, root)
	if err != nil {
		return nil, err
	}
	tree, err := index.Open(ctx, source, object)
	if err != nil {
		return nil, err
	}
	var entries []index.Entry
	for n := range tree.Shards() {
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			return nil, err
		}
		entries = append(entries, shard.Packages...)
	}
	o.entries[root] = entries
	return entries, nil
}

// locate finds which repository serves the index.
func (o *Origin) locate(ctx context.Context, root repo.Digest) (repo.Object, index.Source, error) {
	for _, pin := range o.o.Pins.Repositories {
		f := &files{o, pin}
		b, err := f.Fetch(ctx, repo.DataPath(root), index.MaxRoot)
		if err == nil && repo.DigestOf(b) == root {
			return repo.ObjectOf(b), f, nil
		}
	}
	return repo.Object{}, nil, fmt.Errorf("cannot find index %s in any repository", root)
}

// answer encodes the entries that match, as a nest would. It is never cut
// short: nothing has to cross a socket.
func answer(entries []index.Entry, q api.Query) (api.QueryResult, error) {
	result := api.QueryResult{Entries: []json.RawMessage{}}
	for _, entry := range catalog.Pick(entries, q) {
		b, err := repo.EncodeCanonical(&entry)
		if err != nil {
			return result, err
		}
		result.Entries = append(result.Entries, b)
	}
	return result, nil
}
