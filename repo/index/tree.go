package index

import (
	"context"

	"stork/repo"
)

// Source brings index documents by digest. Implementations check size and
// digest, and are safe for use by one goroutine at a time.
type Source interface {
	Document(ctx context.Context, object repo.Object) ([]byte, error)
}

// Tree is one version of an index: its root and tables; shards are read when
// they are needed.
type Tree struct {
	Root   Root
	Object repo.Object // names the root document
	shards []repo.Object
	source Source
}

// Open reads the root that object names and its tables from source.
func Open(ctx context.Context, source Source, object repo.Object) (*Tree, error) {
	root, err := readRoot(ctx, source, object)
	if err != nil {
		return nil, err
	}
	t := &Tree{Root: *root, Object: object, source: source}
	for _, o := range root.Tables {
		table, err := readTable(ctx, source, o, root)
		if err != nil {
			return nil, err
		}
		t.shards = append(t.shards, table.Shards...)
	}
	return t, nil
}

// Shards names every shard, in order of their numbers.
func (t *Tree) Shards() []repo.Object { return t.shards }

// Shard reads shard number n.
func (t *Tree) Shard(ctx context.Context, n int) (*Shard, error) {
	return readShard(ctx, t.source, t.shards[n], n, t.Root.Bits)
}

func (s *Shard) named(name repo.Name) []Entry {
	var found []Entry
	for i := range s.Packages {
		if s.Packages[i].Name == name {
			found = append(found, s.Packages[i])
		}
	}
	return found
}
