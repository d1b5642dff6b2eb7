package index

import (
	"context"
	"fmt"

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
	b, err := source.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read index root: %w", err)
	}
	root, err := DecodeRoot(b)
	if err != nil {
		return nil, err
	}
	t := &Tree{Root: *root, Object: object, source: source}
	for _, o := range root.Tables {
		table, err := t.table(ctx, o)
		if err != nil {
			return nil, err
		}
		t.shards = append(t.shards, table.Shards...)
	}
	return t, nil
}

// Shards names every shard, in order of their numbers.
func (t *Tree) Shards() []repo.Object { return t.shards }

func (t *Tree) table(ctx context.Context, o repo.Object) (*Table, error) {
	b, err := t.source.Document(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot read index table: %w", err)
	}
	return decodeTable(b, &t.Root)
}

// Shard reads shard number n.
func (t *Tree) Shard(ctx context.Context, n int) (*Shard, error) {
	b, err := t.source.Document(ctx, t.shards[n])
	if err != nil {
		return nil, fmt.Errorf("cannot read index shard: %w", err)
	}
	return DecodeShard(b, n, t.Root.Bits)
}

// Named returns every entry of that name.
func (t *Tree) Named(ctx context.Context, name repo.Name) ([]Entry, error) {
	shard, err := t.Shard(ctx, ShardOf(name, t.Root.Bits))
	if err != nil {
		return nil, err
	}
	return shard.named(name), nil
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

// Lookup returns every entry of that name in the index whose root is named by
// object. It reads the root, one table and one shard: what a guest does to
// check a package that the nest proposed.
func Lookup(ctx context.Context, source Source, object repo.Object, name repo.Name) ([]Entry, error) {
	b, err := source.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read index root: %w", err)
	}
	root, err := DecodeRoot(b)
	if err != nil {
		return nil, err
	}
	t := &Tree{Root: *root, Object: object, source: source}
	n, low := ShardOf(name, root.Bits), root.Bits-root.Bits/2
	table, err := t.table(ctx, root.Tables[n>>low])
	if err != nil {
		return nil, err
	}
	b, err = source.Document(ctx, table.Shards[n&(1<<low-1)])
	if err != nil {
		return nil, fmt.Errorf("cannot read index shard: %w", err)
	}
	shard, err := DecodeShard(b, n, root.Bits)
	if err != nil {
		return nil, err
	}
	return shard.named(name), nil
}
