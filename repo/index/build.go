package index

import (
	"context"
	"fmt"

	"stork/repo"
)

// Documents are the documents of an index that a build made, by digest.
type Documents map[repo.Digest][]byte

// Document implements [Source].
func (d Documents) Document(_ context.Context, o repo.Object) ([]byte, error) {
	b, ok := d[o.Digest]
	if !ok || int64(len(b)) != o.Size {
		return nil, fmt.Errorf("no document %s of %d bytes", o.Digest, o.Size)
	}
	return b, nil
}

// New builds an index of no packages.
func New(publisher repo.Publisher, repository repo.Digest) (*Tree, Documents, error) {
	b := builder{root: Root{Format: Format, Publisher: publisher, Repository: repository}, docs: Documents{}}
	return b.build(nil, nil)
}

// Extend builds the index that has t's packages and added. Only the documents
// that t does not have are returned. A name, version and architecture that t
// has already is refused: what is published never changes.
func (t *Tree) Extend(ctx context.Context, added []Entry) (*Tree, Documents, error) {
	root := t.Root
	root.Packages += len(added)
	root.Bits = bitsFor(root.Packages)
	b := builder{root: root, docs: Documents{}}
	if root.Bits == t.Root.Bits {
		return t.extendInPlace(ctx, b, added)
	}
	all := append([]Entry(nil), added...)
	for n := range t.shards {
		shard, err := t.Shard(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, shard.Packages...)
	}
	return b.build(all, nil)
}

// extendInPlace rewrites only the shards that added touches.
func (t *Tree) extendInPlace(ctx context.Context, b builder, added []Entry) (*Tree, Documents, error) {
	touched := map[int]bool{}
	for i := range added {
		touched[ShardOf(added[i].Name, b.root.Bits)] = true
	}
	all := append([]Entry(nil), added...)
	kept := append([]repo.Object(nil), t.shards...)
	for n := range touched {
		shard, err := t.Shard(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, shard.Packages...)
		kept[n] = repo.Object{}
	}
	tree, docs, err := b.build(all, kept)
	if err != nil {
		return nil, nil, err
	}
	// A table whose shards stand as they are is the one that t has.
	for _, table := range t.Root.Tables {
		delete(docs, table.Digest)
	}
	tree.source = overlay{docs, t.source}
	return tree, docs, nil
}

// overlay looks at new documents first, then at those of the older tree.
type overlay struct{ newer, older Source }

func (o overlay) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	if b, err := o.newer.Document(ctx, object); err == nil {
		return b, nil
	}
	return o.older.Document(ctx, object)
}

type builder struct {
	root Root
	docs Documents
}

// build cuts entries into shards and makes tables and root of them. Where
// kept names a shard, it stands as it is.
func (b builder) build(entries []Entry, kept []repo.Object) (*Tree, Documents, error) {
	sortEntries(entries)
	shards := make([][]Entry, 1<<b.root.Bits)
	for i := range entries {
		if i > 0 && compareEntries(&entries[i-1], &entries[i]) == 0 {
			return nil, nil, fmt.Errorf("%s is published already: raise its release to publish other content", entries[i].NEVRA())
		}
		n := ShardOf(entries[i].Name, b.root.Bits)
		shards[n] = append(shards[n], entries[i])
	}
	objects := make([]repo.Object, len(shards))
	for n, packages := range shards {
		if kept != nil && !kept[n].Digest.IsZero() {
			objects[n] = kept[n]
			continue
		}
		if packages == nil {
			packages = []Entry{}
		}
		o, err := b.add(Shard{Format: Format, Packages: packages})
		if err != nil {
			return nil, nil, err
		}
		objects[n] = o
	}
	return b.finish(objects)
}

// finish writes the tables and the root over the shards.
func (b builder) finish(shards []repo.Object) (*Tree, Documents, error) {
	perTable := 1 << (b.root.Bits - b.root.Bits/2)
	b.root.Tables = nil
	for n := 0; n < len(shards); n += perTable {
		o, err := b.add(Table{Format: Format, Shards: shards[n : n+perTable]})
		if err != nil {
			return nil, nil, err
		}
		b.root.Tables = append(b.root.Tables, o)
	}
	o, err := b.add(b.root)
	if err != nil {
		return nil, nil, err
	}
	return &Tree{Root: b.root, Object: o, shards: shards, source: b.docs}, b.docs, nil
}

func (b builder) add(document any) (repo.Object, error) {
	text, err := repo.EncodeCanonical(document)
	if err != nil {
		return repo.Object{}, err
	}
	o := repo.ObjectOf(text)
	b.docs[o.Digest] = text
	return o, nil
}
