package delta

import (
	"context"
	"errors"
	"fmt"

	"stork/repo"
	"stork/repo/index"
)

// Inflater decompresses a frame to at most size bytes, as [Inflate] does.
type Inflater func(ctx context.Context, frame, dictionary []byte, size int64) ([]byte, error)

// Reader gets documents out of a delta, level by level: first [Reader.Root],
// then [Reader.Tables], then [Reader.Shards], for what a level's frames hold is
// told by the level above. Every document that it returns has the digest that
// was asked for. After an error nothing more comes. It is for one goroutine.
type Reader struct {
	frames  [][]byte
	old     *index.Tree
	src     index.Source // of old's documents
	inflate Inflater
}

// Open begins to read a delta. Old is the index that it goes out from, and
// src has that index's documents.
func Open(b []byte, old *index.Tree, src index.Source, inflate Inflater) (*Reader, error) {
	frames, err := cut(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read delta: %w", err)
	}
	return &Reader{frames: frames, old: old, src: src, inflate: inflate}, nil
}

// Root returns the text of the root that object names.
func (r *Reader) Root(ctx context.Context, object repo.Object) (text []byte, err error) {
	if object.Size < 0 || object.Size > index.MaxRoot {
		return nil, fmt.Errorf("cannot read delta: the root has %d bytes", object.Size)
	}
	g := group{numbers: []int{0}, old: []repo.Object{r.old.Object}, new: []repo.Object{object}}
	err = r.level(ctx, []group{g}, func(_ int, root []byte) error {
		text = root
		return nil
	})
	return text, err
}

// Tables returns the tables of root that the older index has not.
func (r *Reader) Tables(ctx context.Context, root *index.Root) (index.Documents, error) {
	tables := index.Documents{}
	err := r.level(ctx, groups(r.old.Root.Tables, root.Tables), func(n int, text []byte) error {
		tables[root.Tables[n].Digest] = text
		return nil
	})
	return tables, err
}

// Shards hands the shards of tree that the older index has not to take, with
// their numbers, a few megabytes in memory at a time.
func (r *Reader) Shards(ctx context.Context, tree *index.Tree, take func(n int, text []byte) error) error {
	return r.level(ctx, groups(r.old.Shards(), tree.Shards()), take)
}

// End returns an error if there is more in the delta than was read.
func (r *Reader) End() error {
	if len(r.frames) > 0 {
		return errors.New("cannot read delta: it goes on after its end")
	}
	return nil
}

func (r *Reader) level(ctx context.Context, all []group, take func(n int, text []byte) error) error {
	for _, g := range all {
		texts, err := r.next(ctx, g)
		if err != nil {
			r.frames = nil
			return fmt.Errorf("cannot read delta: %w", err)
		}
		for i, text := range texts {
			if err := take(g.numbers[i], text); err != nil {
				return err
			}
		}
	}
	return nil
}

// next reads the next frame, which must hold exactly the documents of g.
func (r *Reader) next(ctx context.Context, g group) ([][]byte, error) {
	if len(r.frames) == 0 {
		return nil, errors.New("it ends too early")
	}
	dictionary, err := together(ctx, r.src, g.old)
	if err != nil {
		return nil, err
	}
	size := sizeOf(g.new)
	content, err := r.inflate(ctx, r.frames[0], dictionary, size)
	if err != nil {
		return nil, err
	}
	if r.frames = r.frames[1:]; int64(len(content)) != size {
		return nil, fmt.Errorf("a frame holds %d bytes where there should be %d", len(content), size)
	}
	var texts [][]byte
	for _, o := range g.new {
		text := content[:o.Size:o.Size]
		if content = content[o.Size:]; repo.DigestOf(text) != o.Digest {
			return nil, fmt.Errorf("it does not hold %s where it should", o.Digest)
		}
		texts = append(texts, text)
	}
	return texts, nil
}
