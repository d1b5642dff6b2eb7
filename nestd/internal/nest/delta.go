package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/delta"
	"stork/repo/index"
)

// indexDelta is what a delta brings of a new index. When there is none, or it
// is not what it should be, it brings nothing, and everything is fetched as
// without it.
type indexDelta struct {
	repository *repository
	reader     *delta.Reader   // nil: nothing more comes
	documents  index.Documents // root and tables that came, verified
}

// openDelta fetches the delta from the index that guests see. The daemon cuts
// it, by the lengths in it, but decompresses nothing: the fetcher's child does.
func (r *repository) openDelta(ctx context.Context, publisher repo.Publisher, object repo.Object) *indexDelta {
	d := &indexDelta{repository: r, documents: index.Documents{}}
	root, err := r.shownIndex(ctx, publisher)
	if err == nil && root.IsZero() {
		return d // the first index of this publisher
	}
	var b []byte
	if err == nil {
		b, err = r.nest.Fetcher.Get(ctx, r.pin.URL, repo.DeltaPath(root, object.Digest), delta.MaxSize)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return d
	}
	var old *index.Tree
	if err == nil {
		old, err = r.heldIndex(ctx, root)
	}
	if err == nil {
		d.reader, err = delta.Open(b, old, heldDocuments{r.nest.State}, r.nest.Fetcher.Inflate)
	}
	d.done(ctx, err)
	return d
}

// shownIndex returns the root of the index that guests see of a publisher, or
// zero.
func (r *repository) shownIndex(ctx context.Context, publisher repo.Publisher) (repo.Digest, error) {
	shown, err := r.nest.State.ShownIndexes(ctx)
	for _, x := range shown {
		if x.Repository == r.pin.Root && x.Publisher == publisher {
			return x.Root, err
		}
	}
	return repo.Digest{}, err
}

// done notes that a delta was of no use. It is no failure: what did not come
// is fetched otherwise.
func (d *indexDelta) done(ctx context.Context, err error) {
	if err != nil {
		d.reader = nil
	}
	if err != nil && ctx.Err() == nil {
		d.repository.nest.Log.Info("delta not used", "repository", d.repository.pin.URL, "err", err)
	}
}

// readRoot brings the root that object names.
func (d *indexDelta) readRoot(ctx context.Context, object repo.Object) {
	if d.reader == nil {
		return
	}
	text, err := d.reader.Root(ctx, object)
	if err == nil {
		d.documents[object.Digest] = text
	}
	d.done(ctx, err)
}

// readTables brings the tables that are new.
func (d *indexDelta) readTables(ctx context.Context, root *index.Root) {
	if d.reader == nil {
		return
	}
	tables, err := d.reader.Tables(ctx, root)
	for digest, text := range tables {
		d.documents[digest] = text
	}
	d.done(ctx, err)
}

// readShards brings those shards that are missing and came.
func (d *indexDelta) readShards(ctx context.Context, tree *index.Tree, missing []int, out chan<- shardText) error {
	return d.reader.Shards(ctx, tree, func(n int, text []byte) error {
		if _, wanted := slices.BinarySearch(missing, n); !wanted {
			return nil
		}
		return send(ctx, out, shardText{n, text})
	})
}

// heldIndex opens an index of the database.
func (r *repository) heldIndex(ctx context.Context, root repo.Digest) (*index.Tree, error) {
	text, err := r.nest.State.IndexDocument(ctx, root)
	if err != nil {
		return nil, err
	}
	return index.Open(ctx, heldDocuments{r.nest.State}, repo.ObjectOf(text))
}

// heldDocuments are the index documents of the database.
type heldDocuments struct{ state *state.State }

// Document implements index.Source.
func (h heldDocuments) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	text, err := h.state.IndexDocument(ctx, o.Digest)
	if err == nil && int64(len(text)) != o.Size {
		err = fmt.Errorf("document %s does not have %d bytes", o.Digest, o.Size)
	}
	return text, err
}
