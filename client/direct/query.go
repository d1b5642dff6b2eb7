package direct

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

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
		result, err := pick(entries, q)
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

// pick returns the entries that match one of the query's terms.
func pick(entries []index.Entry, q api.Query) (api.QueryResult, error) {
	result := api.QueryResult{Entries: []json.RawMessage{}}
	terms := map[string]bool{}
	for _, t := range q.Terms {
		terms[t] = true
	}
	for i := range entries {
		if !matches(&entries[i], q.Kind, q.Terms, terms) {
			continue
		}
		if len(result.Entries) == api.MaxEntries {
			result.More = true
			break
		}
		b, err := repo.EncodeCanonical(&entries[i])
		if err != nil {
			return result, err
		}
		result.Entries = append(result.Entries, b)
	}
	return result, nil
}

func matches(e *index.Entry, kind api.QueryKind, list []string, set map[string]bool) bool {
	switch kind {
	case api.ByName:
		return set[string(e.Name)]
	case api.ByGlob:
		return slices.ContainsFunc(list, func(t string) bool {
			ok, err := path.Match(t, string(e.Name))
			return err == nil && ok
		})
	case api.ByCapability:
		return set[string(e.Name)] || slices.ContainsFunc(e.Paths, func(p string) bool { return set[p] }) ||
			slices.ContainsFunc(e.Provides, func(c repo.Capability) bool { return set[c.Name] })
	case api.ByObsoletes:
		return slices.ContainsFunc(e.Obsoletes, func(c repo.Capability) bool { return set[c.Name] })
	case api.ByReverse:
		return namesAny(set, e.Supplements, e.Enhances)
	case api.ByRequires:
		return namesAny(set, e.Requires, e.RequiresPre)
	case api.ByText:
		text := strings.ToLower(string(e.Name) + " " + e.Summary)
		return slices.ContainsFunc(list, func(t string) bool { return strings.Contains(text, strings.ToLower(t)) })
	}
	return false
}

// namesAny reports whether a requirement in one of the lists names something
// in set.
func namesAny(set map[string]bool, lists ...[]string) bool {
	for _, list := range lists {
		for _, text := range list {
			r, err := repo.ParseRequirement(text)
			if err == nil && slices.ContainsFunc(r.Names(), func(n string) bool { return set[n] }) {
				return true
			}
		}
	}
	return false
}
