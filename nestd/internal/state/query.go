package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"stork/nestd/api"
	"stork/repo"
)

// ErrBadQuery is returned, wrapped, for a query that makes no sense.
var ErrBadQuery = errors.New("bad query")

// maxTerm is the length in bytes of a term at most: paths are the longest.
const maxTerm = 4096

// Query answers one query of one index, ErrNotFound if the index is not
// there.
func (s *State) Query(ctx context.Context, q api.Query) (api.QueryResult, error) {
	result := api.QueryResult{Entries: []json.RawMessage{}}
	if err := checkQuery(q); err != nil {
		return result, err
	}
	return result, s.read(ctx, "query", func(tx *sql.Tx) error {
		var id int64
		if err := tx.QueryRowContext(ctx, `SELECT id FROM indexes WHERE digest = ?`, q.Index[:]).Scan(&id); err != nil {
			return err
		}
		run := query{tx: tx, index: id, result: &result, seen: map[int64]bool{}}
		return run.do(ctx, q)
	})
}

func checkQuery(q api.Query) error {
	if len(q.Terms) > api.MaxTerms {
		return fmt.Errorf("%w: over %d terms", ErrBadQuery, api.MaxTerms)
	}
	for _, t := range q.Terms {
		if t == "" || len(t) > maxTerm {
			return fmt.Errorf("%w: a term is empty or over %d bytes", ErrBadQuery, maxTerm)
		}
		if q.Kind == api.ByGlob {
			if _, err := path.Match(t, ""); err != nil {
				return fmt.Errorf("%w: %q is no pattern", ErrBadQuery, t)
			}
		}
	}
	return nil
}

// query collects the entries of one query.
type query struct {
	tx     *sql.Tx
	index  int64
	result *api.QueryResult
	seen   map[int64]bool
}

func (q *query) do(ctx context.Context, wire api.Query) error {
	switch wire.Kind {
	case api.ByName:
		return q.lookup(ctx, wire.Terms, `packages p WHERE p.name = ?`)
	case api.ByCapability:
		return q.lookup(ctx, wire.Terms, `capabilities c CROSS JOIN packages p ON p.id = c.package WHERE c.name = ?`)
	case api.ByObsoletes:
		return q.lookup(ctx, wire.Terms, `obsoletes c CROSS JOIN packages p ON p.id = c.package WHERE c.name = ?`)
	case api.ByReverse:
		return q.lookup(ctx, wire.Terms, `supplements c CROSS JOIN packages p ON p.id = c.package WHERE c.name = ?`)
	case api.ByGlob:
		return q.globs(ctx, wire.Terms)
	case api.ByRequires:
		return q.requires(ctx, wire.Terms)
	case api.ByText:
		return q.text(ctx, wire.Terms)
	}
	return fmt.Errorf("%w: unknown kind %q", ErrBadQuery, wire.Kind)
}

// lookup runs one prepared statement for every term; from names the tables
// and ends in a condition on the term.
func (q *query) lookup(ctx context.Context, terms []string, from string) error {
	find, err := q.tx.PrepareContext(ctx, `SELECT p.id, p.entry FROM `+from+
		` AND EXISTS (SELECT 1 FROM index_shards l WHERE l.idx = ? AND l.shard = p.shard)`)
	if err != nil {
		return err
	}
	defer find.Close()
	for _, term := range terms {
		rows, err := find.QueryContext(ctx, term, q.index)
		if err != nil {
			return err
		}
		if err := q.collect(rows, func([]byte) (bool, error) { return true, nil }); err != nil || q.result.More {
			return err
		}
	}
	return nil
}

// scan looks at every package of the index whose entry contains one of
// needles, which match decides about; no needles: all packages.
func (q *query) scan(ctx context.Context, needles []string, match func(entry []byte) (bool, error)) error {
	statement := `SELECT p.id, p.entry FROM packages p
		WHERE EXISTS (SELECT 1 FROM index_shards l WHERE l.idx = ? AND l.shard = p.shard)`
	args := []any{q.index}
	for i, needle := range needles {
		statement += [...]string{" AND (", " OR "}[min(i, 1)] + "instr(p.entry, ?) > 0"
		args = append(args, []byte(needle))
	}
	if len(needles) > 0 {
		statement += ")"
	}
	rows, err := q.tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	return q.collect(rows, match)
}

// collect takes the rows that match, each package once, up to the limit.
func (q *query) collect(rows *sql.Rows, match func(entry []byte) (bool, error)) error {
	defer rows.Close()
	for rows.Next() {
		var id int64
		var entry sql.RawBytes
		if err := rows.Scan(&id, &entry); err != nil {
			return err
		}
		if q.seen[id] {
			continue
		}
		ok, err := match(entry)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if len(q.result.Entries) == api.MaxEntries {
			q.result.More = true
			return nil
		}
		q.seen[id] = true
		q.result.Entries = append(q.result.Entries, append(json.RawMessage(nil), entry...))
	}
	return rows.Err()
}

// globs matches names in Go, whose pattern syntax the protocol promises, and
// has SQLite bring only the names with the pattern's literal prefix.
func (q *query) globs(ctx context.Context, patterns []string) error {
	for _, pattern := range patterns {
		prefix, _, _ := strings.Cut(strings.NewReplacer("?", "*", "[", "*", `\`, "*").Replace(pattern), "*")
		var names []string
		rows, err := q.tx.QueryContext(ctx, `SELECT DISTINCT name FROM packages WHERE name >= ? AND name < ?`, prefix, prefix+"\x7f")
		if err != nil {
			return err
		}
		if err := each(rows, func() error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			if ok, _ := path.Match(pattern, name); ok { // checkQuery has refused bad patterns
				names = append(names, name)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := q.lookup(ctx, names, `packages p WHERE p.name = ?`); err != nil || q.result.More {
			return err
		}
	}
	return nil
}

// requires finds what names a capability in its requirements.
func (q *query) requires(ctx context.Context, terms []string) error {
	wanted := map[string]bool{}
	var needles []string
	for _, term := range terms {
		wanted[term] = true
		quoted, err := repo.EncodeCanonical(term)
		if err != nil {
			return err
		}
		needles = append(needles, strings.Trim(string(quoted), `"`))
	}
	if len(needles) == 0 || len(needles) > 100 { // beyond, looking for all of them costs more than parsing
		needles = nil
	}
	return q.scan(ctx, needles, func(entry []byte) (bool, error) {
		var e struct {
			Requires    []string `json:"requires"`
			RequiresPre []string `json:"requires_pre"`
		}
		if err := json.Unmarshal(entry, &e); err != nil {
			return false, err
		}
		for _, text := range append(e.Requires, e.RequiresPre...) {
			r, err := repo.ParseRequirement(text)
			if err != nil {
				return false, err
			}
			for _, name := range r.Names() {
				if wanted[name] {
					return true, nil
				}
			}
		}
		return false, nil
	})
}

// text finds packages in whose name or summary every word of one of the terms
// occurs.
func (q *query) text(ctx context.Context, terms []string) error {
	var words [][]string
	for _, t := range terms {
		words = append(words, strings.Fields(strings.ToLower(t)))
	}
	return q.scan(ctx, nil, func(entry []byte) (bool, error) {
		var e struct {
			Name    string `json:"name"`
			Summary string `json:"summary"`
		}
		if err := json.Unmarshal(entry, &e); err != nil {
			return false, err
		}
		return matchesWords(strings.ToLower(e.Name+"\n"+e.Summary), words), nil
	})
}

func matchesWords(text string, terms [][]string) bool {
	for _, words := range terms {
		missing := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
		if len(words) > 0 && !missing {
			return true
		}
	}
	return false
}
