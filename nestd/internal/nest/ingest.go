package nest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"stork/nestd/internal/fetch"
	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/index"
)

// indexError says that what a publisher has signed is wrong in itself.
type indexError struct{ err error }

func (e *indexError) Error() string { return e.err.Error() }
func (e *indexError) Unwrap() error { return e.err }

// Bounds of the ingest.
const (
	maxIndex     = 4 << 30  // bytes of all shards of an index
	batchBytes   = 64 << 20 // bytes of shards in one transaction
	parallelGets = 16       // documents asked for at the same time
	packFrom     = 64       // missing shards from which the pack is worth it
)

// ingest brings an index into the database. It is not shown yet.
func (r *repository) ingest(ctx context.Context, publisher repo.Publisher, object repo.Object) error {
	if there, err := r.nest.State.HasIndex(ctx, object.Digest); err != nil || there {
		return err
	}
	d := r.openDelta(ctx, publisher, object)
	tree, documents, err := r.openIndex(ctx, object, d)
	if err != nil {
		return err
	}
	if tree.Root.Publisher != publisher || tree.Root.Repository != r.pin.Root {
		return &indexError{fmt.Errorf("it was made for %s in repository %s", tree.Root.Publisher, tree.Root.Repository.Short())}
	}
	var total int64
	for _, o := range tree.Shards() {
		if o.Size < 0 || o.Size > index.MaxShard {
			return &indexError{fmt.Errorf("a shard has %d bytes", o.Size)}
		}
		if total += o.Size; total > maxIndex {
			return &indexError{fmt.Errorf("the shards have over %d bytes", int64(maxIndex))}
		}
	}
	if err := r.ingestShards(ctx, tree, total, d); err != nil {
		return err
	}
	return r.nest.State.AddIndex(ctx, state.Index{
		Object: object, Repository: r.pin.Root, Publisher: publisher,
		Bits: tree.Root.Bits, Shards: tree.Shards(), Documents: documents,
	})
}

// openIndex reads root and tables, the tables beside each other.
func (r *repository) openIndex(ctx context.Context, object repo.Object, d *indexDelta) (*index.Tree, index.Documents, error) {
	if object.Size < 0 || object.Size > index.MaxRoot {
		return nil, nil, &indexError{fmt.Errorf("the root has %d bytes", object.Size)}
	}
	d.readRoot(ctx, object)
	text, err := r.document(ctx, object, d)
	if err != nil {
		return nil, nil, err
	}
	root, err := index.DecodeRoot(text)
	if err != nil {
		return nil, nil, &indexError{err}
	}
	d.readTables(ctx, root)
	documents := index.Documents{object.Digest: text}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelGets)
	for _, o := range root.Tables {
		if o.Size < 0 || o.Size > index.MaxTable {
			return nil, nil, &indexError{fmt.Errorf("a table has %d bytes", o.Size)}
		}
		g.Go(func() error {
			text, err := r.document(gctx, o, d)
			mu.Lock()
			defer mu.Unlock()
			documents[o.Digest] = text
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	tree, err := index.Open(ctx, documents, object)
	if err != nil {
		return nil, nil, &indexError{err}
	}
	return tree, documents, nil
}

// document fetches an index document and checks it; those of earlier indexes
// come from the database, those that a delta has brought from there.
func (r *repository) document(ctx context.Context, o repo.Object, d *indexDelta) ([]byte, error) {
	if text := d.documents[o.Digest]; text != nil {
		return text, nil
	}
	text, err := r.nest.State.IndexDocument(ctx, o.Digest)
	if err == nil || !errors.Is(err, state.ErrNotFound) {
		return text, err
	}
	return r.get(ctx, o)
}

// get fetches a document by digest, of any kind.
func (r *repository) get(ctx context.Context, o repo.Object) ([]byte, error) {
	text, err := r.nest.Fetcher.Get(ctx, r.pin.URL, repo.DataPath(o.Digest), o.Size)
	if errors.Is(err, fetch.ErrTooLarge) || err == nil && repo.ObjectOf(text) != o {
		return nil, fmt.Errorf("cannot fetch document %s: %w", o.Digest, fetch.ErrMismatch)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot fetch document %s: the repository lacks it: %w", o.Digest, fetch.ErrUnreachable)
	}
	return text, err
}

// ingestShards inserts the shards that the database lacks. First come those
// of the delta; if most are missing then, they come in one stream; whatever
// that did not bring is fetched one by one.
func (r *repository) ingestShards(ctx context.Context, tree *index.Tree, total int64, d *indexDelta) error {
	missing, err := r.nest.State.MissingShards(ctx, tree.Root.Bits, tree.Shards())
	if err != nil || len(missing) == 0 {
		return err
	}
	if d.reader != nil {
		err := r.insert(ctx, tree, func(ctx context.Context, out chan<- shardText) error {
			return d.readShards(ctx, tree, missing, out)
		})
		d.done(ctx, err)
		if missing, err = r.nest.State.MissingShards(ctx, tree.Root.Bits, tree.Shards()); err != nil || len(missing) == 0 {
			return err
		}
	}
	if len(missing) >= packFrom && len(missing) > len(tree.Shards())/2 {
		err := r.nest.Fetcher.Stream(ctx, r.pin.URL, repo.PackPath(tree.Object.Digest), tablesSize(tree)+total, func(pack io.Reader) error {
			return r.insert(ctx, tree, func(ctx context.Context, out chan<- shardText) error {
				return readPack(ctx, pack, tree, missing, out)
			})
		})
		if err != nil && ctx.Err() == nil {
			r.nest.Log.Info("pack not used", "repository", r.pin.URL, "err", err)
		}
		if missing, err = r.nest.State.MissingShards(ctx, tree.Root.Bits, tree.Shards()); err != nil {
			return err
		}
	}
	return r.insert(ctx, tree, func(ctx context.Context, out chan<- shardText) error {
		return r.getShards(ctx, tree, missing, out)
	})
}

// shardText is a shard as it came.
type shardText struct {
	number int
	text   []byte
}

// readPack cuts a pack, which is the text of all tables and then of all
// shards in order, one behind the other, into the shards that are missing.
func readPack(ctx context.Context, pack io.Reader, tree *index.Tree, missing []int, out chan<- shardText) error {
	if _, err := io.CopyN(io.Discard, pack, tablesSize(tree)); err != nil {
		return err
	}
	next := 0
	for n, o := range tree.Shards() {
		if next == len(missing) {
			return nil
		}
		if n != missing[next] {
			if _, err := io.CopyN(io.Discard, pack, o.Size); err != nil {
				return err
			}
			continue
		}
		next++
		text := make([]byte, o.Size)
		if _, err := io.ReadFull(pack, text); err != nil {
			return err
		}
		if err := send(ctx, out, shardText{n, text}); err != nil {
			return err
		}
	}
	return nil
}

func tablesSize(tree *index.Tree) int64 {
	var size int64
	for _, o := range tree.Root.Tables {
		size += o.Size
	}
	return size
}

func (r *repository) getShards(ctx context.Context, tree *index.Tree, missing []int, out chan<- shardText) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelGets)
	for _, n := range missing {
		g.Go(func() error {
			text, err := r.get(ctx, tree.Shards()[n])
			if err != nil {
				return err
			}
			return send(ctx, out, shardText{n, text})
		})
	}
	return g.Wait()
}

func send[T any](ctx context.Context, out chan<- T, v T) error {
	select {
	case out <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// insert runs the ingest as a line of three: produce brings texts, several
// goroutines verify and cut them, one inserts. Memory is bounded by the
// channels and by batchBytes.
func (r *repository) insert(ctx context.Context, tree *index.Tree, produce func(context.Context, chan<- shardText) error) error {
	g, ctx := errgroup.WithContext(ctx)
	texts := make(chan shardText, 16)
	g.Go(func() error { defer close(texts); return produce(ctx, texts) })
	shards := make(chan *state.Shard, 16)
	var parsers errgroup.Group
	for range max(2, runtime.GOMAXPROCS(0)) {
		parsers.Go(func() error {
			for t := range texts {
				shard, err := state.ParseShard(t.text, tree.Shards()[t.number], t.number, tree.Root.Bits)
				if err != nil {
					for range texts { // let produce end
					}
					return &indexError{err}
				}
				if err := send(ctx, shards, shard); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error { defer close(shards); return parsers.Wait() })
	g.Go(func() error { return r.addShards(ctx, shards) })
	return g.Wait()
}

func (r *repository) addShards(ctx context.Context, shards <-chan *state.Shard) error {
	var batch []*state.Shard
	var size int64
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := r.nest.State.AddShards(ctx, batch)
		batch, size = nil, 0
		return err
	}
	for shard := range shards {
		batch = append(batch, shard)
		if size += shard.Bytes(); size >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return flush()
}
