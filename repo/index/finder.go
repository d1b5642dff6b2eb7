package index

import (
	"context"
	"fmt"

	"stork/repo"
)

// Finder checks packages against one version of an index: it reads the root
// when it is made and a table or a shard when it is first needed, each once,
// however many packages are looked for. It is for one goroutine.
type Finder struct {
	Root   Root
	source Source
	tables map[int]*Table
	shards map[int]*Shard
}

// Find reads the root that object names from source.
func Find(ctx context.Context, source Source, object repo.Object) (*Finder, error) {
	root, err := readRoot(ctx, source, object)
	if err != nil {
		return nil, err
	}
	return &Finder{Root: *root, source: source, tables: map[int]*Table{}, shards: map[int]*Shard{}}, nil
}

// Named returns every entry of that name.
func (f *Finder) Named(ctx context.Context, name repo.Name) ([]Entry, error) {
	n := ShardOf(name, f.Root.Bits)
	if f.shards[n] == nil {
		object, err := f.shard(ctx, n)
		if err != nil {
			return nil, err
		}
		if f.shards[n], err = readShard(ctx, f.source, object, n, f.Root.Bits); err != nil {
			return nil, err
		}
	}
	return f.shards[n].named(name), nil
}

// Shard names the shard that lists packages of that name, and does not read
// it.
func (f *Finder) Shard(ctx context.Context, name repo.Name) (repo.Object, error) {
	return f.shard(ctx, ShardOf(name, f.Root.Bits))
}

func (f *Finder) shard(ctx context.Context, n int) (repo.Object, error) {
	low := f.Root.Bits - f.Root.Bits/2
	table := f.tables[n>>low]
	if table == nil {
		var err error
		if table, err = readTable(ctx, f.source, f.Root.Tables[n>>low], &f.Root); err != nil {
			return repo.Object{}, err
		}
		f.tables[n>>low] = table
	}
	return table.Shards[n&(1<<low-1)], nil
}

func readRoot(ctx context.Context, source Source, o repo.Object) (*Root, error) {
	b, err := source.Document(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot read index root: %w", err)
	}
	return DecodeRoot(b)
}

func readTable(ctx context.Context, source Source, o repo.Object, root *Root) (*Table, error) {
	b, err := source.Document(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot read index table: %w", err)
	}
	return decodeTable(b, root)
}

func readShard(ctx context.Context, source Source, o repo.Object, n, bits int) (*Shard, error) {
	b, err := source.Document(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot read index shard: %w", err)
	}
	return DecodeShard(b, n, bits)
}
