package state

import (
	"fmt"
	"slices"

	"stork/repo"
	"stork/repo/index"
)

// Shard is a verified shard, cut into rows. It holds no more than the text it
// was read from and names out of it.
type Shard struct {
	object   repo.Object
	number   int
	bits     int
	packages []packageRow
}

// packageRow is one package and the names under which it is found.
type packageRow struct {
	name       string
	record     repo.Object
	entry      []byte
	provides   []string
	obsoletes  []string
	supplement []string
}

// ParseShard verifies the text of shard number n of an index with 2^bits
// shards against object, and cuts it into rows. It touches no database, so
// shards can be parsed beside each other.
func ParseShard(text []byte, object repo.Object, n, bits int) (*Shard, error) {
	if repo.ObjectOf(text) != object {
		return nil, fmt.Errorf("cannot read index shard %d: content does not match %s", n, object.Digest)
	}
	decoded, err := index.DecodeShard(text, n, bits)
	if err != nil {
		return nil, err
	}
	raw := cutEntries(text)
	if len(raw) != len(decoded.Packages) {
		return nil, fmt.Errorf("cannot read index shard %d: entries do not line up", n)
	}
	s := &Shard{object: object, number: n, bits: bits, packages: make([]packageRow, len(raw))}
	for i := range decoded.Packages {
		row, err := rowOf(&decoded.Packages[i], raw[i])
		if err != nil {
			return nil, err
		}
		s.packages[i] = row
	}
	return s, nil
}

// cutEntries returns the text of each entry of a shard. The text is known to
// be canonical JSON, so entries are what stands in braces inside of the
// outermost ones; decoding it a second time would take a fifth of an ingest.
func cutEntries(text []byte) [][]byte {
	var entries [][]byte
	depth, start, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			if depth++; depth == 2 {
				start = i
			}
		case c == '}':
			if depth--; depth == 1 {
				entries = append(entries, text[start:i+1])
			}
		}
	}
	return entries
}

// Bytes is roughly what the shard holds in memory.
func (s *Shard) Bytes() int64 { return s.object.Size }

// rowOf collects the names of an entry. What is deleted with a package is
// found by the same function, so it must depend on the entry alone.
func rowOf(e *index.Entry, raw []byte) (packageRow, error) {
	row := packageRow{name: string(e.Name), record: e.Record, entry: raw}
	row.provides = append(make([]string, 0, len(e.Provides)+len(e.Paths)+1), string(e.Name))
	for _, c := range e.Provides {
		row.provides = append(row.provides, c.Name)
	}
	row.provides = unique(append(row.provides, e.Paths...))
	for _, c := range e.Obsoletes {
		row.obsoletes = append(row.obsoletes, c.Name)
	}
	row.obsoletes = unique(row.obsoletes)
	for _, list := range [][]string{e.Supplements, e.Enhances} {
		for _, text := range list {
			r, err := repo.ParseRequirement(text)
			if err != nil {
				return packageRow{}, fmt.Errorf("cannot read index entry of %s: %w", e.NEVRA(), err)
			}
			row.supplement = append(row.supplement, r.Names()...)
		}
	}
	row.supplement = unique(row.supplement)
	return row, nil
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// nameRow says that a package is found under a name.
type nameRow struct {
	name string
	id   int64
}

// nameTables are the tables that hold nameRows.
var nameTables = [...]string{"capabilities", "obsoletes", "supplements"}

// names returns the names of row for each of nameTables.
func (r *packageRow) names() [len(nameTables)][]string {
	return [...][]string{r.provides, r.obsoletes, r.supplement}
}
