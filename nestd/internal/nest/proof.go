package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// proof is an index.Source of what the nest holds; it collects what is read.
type proof struct {
	nest    *Nest
	finders map[repo.Digest]*index.Finder // by index root
	seen    map[repo.Digest][]byte
	list    [][]byte
	lacks   bool // something that the nest does not hold
}

func (n *Nest) newProof() *proof {
	return &proof{nest: n, finders: map[repo.Digest]*index.Finder{}, seen: map[repo.Digest][]byte{}}
}

// Document implements index.Source.
func (p *proof) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	if b, ok := p.seen[o.Digest]; ok {
		return b, nil
	}
	b, err := p.nest.heldDocument(ctx, o.Digest)
	if err != nil {
		return nil, err
	}
	p.seen[o.Digest] = b
	p.list = append(p.list, b)
	return b, nil
}

// add reads the way from an index root, which the guest has, to one entry and
// its record.
func (p *proof) add(ctx context.Context, root repo.Digest, entry *index.Entry) error {
	if err := p.way(ctx, root, entry.Name); err != nil {
		return err
	}
	_, err := p.Document(ctx, entry.Record)
	return p.orLacks(err)
}

// way reads what lies between an index root, which the guest has, and the
// entries of a name.
func (p *proof) way(ctx context.Context, root repo.Digest, name repo.Name) error {
	finder, err := p.finder(ctx, root)
	if err != nil {
		return p.orLacks(err)
	}
	shard, err := finder.Shard(ctx, name)
	if err == nil {
		_, err = p.Document(ctx, shard)
	}
	return p.orLacks(err)
}

func (p *proof) finder(ctx context.Context, root repo.Digest) (*index.Finder, error) {
	if f := p.finders[root]; f != nil {
		return f, nil
	}
	b, err := p.nest.heldDocument(ctx, root)
	if err != nil {
		return nil, err
	}
	p.seen[root] = b
	f, err := index.Find(ctx, p, repo.Object{Digest: root})
	if err == nil {
		p.finders[root] = f
	}
	return f, err
}

// provers is how many records one request has fetched at a time.
const provers = 8

// Proof hands the documents that verify packages to emit, as they are read.
// Records that the nest has not yet come from the repository: whoever asks is
// about to install them.
func (n *Nest) Proof(ctx context.Context, root repo.Digest, request api.ProofRequest, emit func([]byte) error) error {
	r, ok := n.repositories[root]
	if !ok {
		return absent("repository " + root.Short())
	}
	if len(request.Packages) > api.MaxProof {
		return fmt.Errorf("cannot prove %d packages: %w", len(request.Packages), errTooMany)
	}
	p := n.newProof()
	for _, want := range request.Packages {
		if err := p.way(ctx, request.Index, want.Name); err != nil {
			return fmt.Errorf("cannot gather what verifies %.100s: %w", want.Name, err)
		}
	}
	size := 0
	for _, b := range p.list {
		if size += len(b); size > api.MaxProofBytes {
			return nil
		}
		if err := emit(b); err != nil {
			return err
		}
	}
	return n.records(ctx, r, request.Packages, api.MaxProofBytes-size, emit)
}

// records hands over records, up to a size in bytes. It ends at the first that
// can not be had: the guest asks for that by its path, and is told why.
func (n *Nest) records(ctx context.Context, r *repository, packages []api.ProofPackage, size int, emit func([]byte) error) error {
	var one sync.Mutex // guards size and emit
	var broken atomic.Bool
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(provers)
	for _, want := range packages {
		group.Go(func() error {
			if broken.Load() {
				return nil
			}
			b, err := n.readDocument(ctx, r, want.Record)
			if err != nil {
				broken.Store(true)
				return ctx.Err()
			}
			one.Lock()
			defer one.Unlock()
			if size -= len(b); size < 0 {
				return nil
			}
			return emit(b)
		})
	}
	return group.Wait()
}

// orLacks notes that something is not held: the guest asks for it.
func (p *proof) orLacks(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		p.lacks = true
		return nil
	}
	return err
}
