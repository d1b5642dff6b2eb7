package catalog

import (
	"context"
	"path"
	"slices"
	"strings"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// Scan reads a whole index and returns the entries that match one of the
// query's terms: slow, but complete, and as far as the source is, verified.
func Scan(ctx context.Context, source index.Source, root repo.Object, q api.Query) ([]index.Entry, error) {
	tree, err := index.Open(ctx, source, root)
	if err != nil {
		return nil, err
	}
	var found []index.Entry
	for n := range tree.Shards() {
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			return nil, err
		}
		found = append(found, Pick(shard.Packages, q)...)
	}
	return found, nil
}

// Pick returns the entries that match one of the query's terms, as the nest
// does (see [api.QueryKind]).
func Pick(entries []index.Entry, q api.Query) []index.Entry {
	terms := map[string]bool{}
	for _, t := range q.Terms {
		terms[t] = true
	}
	var found []index.Entry
	for i := range entries {
		if matches(&entries[i], q.Kind, q.Terms, terms) {
			found = append(found, entries[i])
		}
	}
	return found
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
		text := strings.ToLower(string(e.Name) + "\n" + e.Summary)
		return slices.ContainsFunc(list, func(t string) bool { return hasWords(text, t) })
	}
	return false
}

// hasWords reports whether every word of term occurs in text, which is in
// lower case.
func hasWords(text, term string) bool {
	words := strings.Fields(strings.ToLower(term))
	return len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
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
