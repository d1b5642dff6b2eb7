package index

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stork/repo"
)

// Format is the version of the index documents that this code writes and
// reads.
const Format = 1

// Sizes in bytes beyond which an index document is refused unread, and the
// largest number of shards, as a power of two.
const (
	MaxRoot  = 1 << 20
	MaxTable = 1 << 20
	MaxShard = 64 << 20
	maxBits  = 20
)

// meanShard is the number of packages that shards hold on average at most: so
// that one package among 60 000 is checked by reading about 20 KB.
const meanShard = 16

// Root is the target that a publisher's role signs under
// "<publisher>/index/root".
type Root struct {
	Bits       int            `json:"bits"` // there are 2^Bits shards
	Format     int            `json:"format"`
	Packages   int            `json:"packages"` // in all shards
	Publisher  repo.Publisher `json:"publisher"`
	Repository repo.Digest    `json:"repository"` // the repository's first root, so that the index can not be replayed elsewhere
	Tables     []repo.Object  `json:"tables"`     // 2^(Bits/2)
}

// Table lists neighbouring shards.
type Table struct {
	Format int           `json:"format"`
	Shards []repo.Object `json:"shards"`
}

// Shard lists the packages whose names hash to it, sorted by name, version
// and architecture.
type Shard struct {
	Format   int     `json:"format"`
	Packages []Entry `json:"packages"`
}

// Entry is what the solver needs to know of a package, and where its record
// is. Every field but Record repeats the record's field of that name.
type Entry struct {
	Arch          repo.Arch         `json:"arch"`
	BlobSize      int64             `json:"blob_size"`
	Conflicts     []string          `json:"conflicts,omitempty"`
	Enhances      []string          `json:"enhances,omitempty"`
	Epoch         uint32            `json:"epoch,omitempty"`
	InstalledSize int64             `json:"installed_size"`
	Name          repo.Name         `json:"name"`
	Obsoletes     []repo.Capability `json:"obsoletes,omitempty"`
	Paths         []string          `json:"paths,omitempty"`
	Provides      []repo.Capability `json:"provides,omitempty"`
	Recommends    []string          `json:"recommends,omitempty"`
	Record        repo.Object       `json:"record"` // its digest is the package ID
	Release       string            `json:"release"`
	Requires      []string          `json:"requires,omitempty"`
	RequiresPre   []string          `json:"requires_pre,omitempty"`
	Suggests      []string          `json:"suggests,omitempty"`
	Summary       string            `json:"summary,omitempty"`
	Supplements   []string          `json:"supplements,omitempty"`
	Version       string            `json:"version"`
}

// EntryOf returns the index entry of a record whose canonical form is named
// by object.
func EntryOf(r *repo.Record, object repo.Object) Entry {
	return Entry{
		Arch: r.Arch, BlobSize: r.Blob.Size, Conflicts: r.Conflicts, Enhances: r.Enhances,
		Epoch: r.Epoch, InstalledSize: r.InstalledSize, Name: r.Name, Obsoletes: r.Obsoletes,
		Paths: r.Paths, Provides: r.Provides, Recommends: r.Recommends, Record: object,
		Release: r.Release, Requires: r.Requires, RequiresPre: r.RequiresPre,
		Suggests: r.Suggests, Summary: r.Summary, Supplements: r.Supplements, Version: r.Version,
	}
}

// EVR returns the package's epoch, version and release.
func (e *Entry) EVR() repo.EVR {
	return repo.EVR{Epoch: e.Epoch, Version: e.Version, Release: e.Release}
}

// NEVRA returns what identifies the package among the publisher's.
func (e *Entry) NEVRA() repo.NEVRA { return repo.NEVRA{Name: e.Name, EVR: e.EVR(), Arch: e.Arch} }

// compareEntries orders a shard. Versions that RPM holds equal but that are
// spelt differently ("1.0" and "1.00") are ordered by their text.
func compareEntries(a, b *Entry) int {
	if c := cmp.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if c := a.EVR().Compare(b.EVR()); c != 0 {
		return c
	}
	if c := cmp.Compare(a.EVR().String(), b.EVR().String()); c != 0 {
		return c
	}
	return cmp.Compare(a.Arch, b.Arch)
}

// DecodeRoot reads an index root.
func DecodeRoot(b []byte) (*Root, error) {
	r := new(Root)
	if err := decode(b, r, MaxRoot, "root"); err != nil {
		return nil, err
	}
	if r.Format != Format || r.Bits < 0 || r.Bits > maxBits || len(r.Tables) != 1<<(r.Bits/2) ||
		r.Packages < 0 || r.Bits != bitsFor(r.Packages) || r.Publisher == "" || r.Repository.IsZero() {
		return nil, errors.New("cannot decode index root: fields do not agree")
	}
	return r, nil
}

func decodeTable(b []byte, root *Root) (*Table, error) {
	t := new(Table)
	if err := decode(b, t, MaxTable, "table"); err != nil {
		return nil, err
	}
	if t.Format != Format || len(t.Shards) != 1<<(root.Bits-root.Bits/2) {
		return nil, errors.New("cannot decode index table: fields do not agree with the root")
	}
	return t, nil
}

// DecodeShard reads shard number n of an index with 2^bits shards.
func DecodeShard(b []byte, n, bits int) (*Shard, error) {
	s := new(Shard)
	if err := decode(b, s, MaxShard, "shard"); err != nil {
		return nil, err
	}
	if s.Format != Format {
		return nil, fmt.Errorf("cannot decode index shard: unknown format %d", s.Format)
	}
	for i := range s.Packages {
		e := &s.Packages[i]
		if ShardOf(e.Name, bits) != n {
			return nil, fmt.Errorf("cannot decode index shard: %s does not belong here", e.Name)
		}
		if i > 0 && compareEntries(&s.Packages[i-1], e) >= 0 {
			return nil, fmt.Errorf("cannot decode index shard: %s is out of order or twice", e.NEVRA())
		}
	}
	return s, nil
}

func decode(b []byte, v any, max int, what string) error {
	if len(b) > max {
		return fmt.Errorf("cannot decode index %s: over %d bytes", what, max)
	}
	if err := repo.DecodeCanonical(b, v); err != nil {
		return fmt.Errorf("cannot decode index %s: %w", what, err)
	}
	return nil
}

// ShardOf returns the number of the shard that lists packages of that name:
// the first bits of the name's SHA-256.
func ShardOf(name repo.Name, bits int) int {
	d := repo.DigestOf([]byte(name))
	first := int(d[0])<<16 | int(d[1])<<8 | int(d[2])
	return first >> (24 - bits)
}

// bitsFor returns how finely an index of that many packages is cut.
func bitsFor(packages int) int {
	bits := 0
	for packages > meanShard<<bits && bits < maxBits {
		bits++
	}
	return bits
}

func sortEntries(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int { return compareEntries(&a, &b) })
}
