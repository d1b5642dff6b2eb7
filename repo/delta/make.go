package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"stork/repo"
	"stork/repo/index"
)

// ErrNone says that there is no delta between two indexes which is worth it:
// the newer one has more than twice as many shards, or the delta would be
// larger than MaxSize.
var ErrNone = errors.New("no delta")

// Make returns the delta from one index to a later one of the same publisher.
// It is a function of both. Src has the documents of either.
func Make(ctx context.Context, src index.Source, old, new *index.Tree) ([]byte, error) {
	if tooFine(old.Root.Bits, new.Root.Bits) {
		return nil, ErrNone
	}
	m := &maker{src: src, out: []byte(header)}
	all := []group{{old: []repo.Object{old.Object}, new: []repo.Object{new.Object}}}
	all = append(all, groups(old.Root.Tables, new.Root.Tables)...)
	all = append(all, groups(old.Shards(), new.Shards())...)
	for _, g := range all {
		if err := m.add(ctx, g); err != nil {
			if !errors.Is(err, ErrNone) {
				err = fmt.Errorf("cannot make delta: %w", err)
			}
			return nil, err
		}
	}
	return m.out, nil
}

type maker struct {
	src index.Source
	out []byte
}

func (m *maker) add(ctx context.Context, g group) error {
	dictionary, err := together(ctx, m.src, g.old)
	if err != nil {
		return err
	}
	content, err := together(ctx, m.src, g.new)
	if err != nil {
		return err
	}
	frame, err := deflate(dictionary, content)
	if err != nil {
		return err
	}
	m.out = binary.BigEndian.AppendUint32(m.out, uint32(len(frame)))
	if m.out = append(m.out, frame...); len(m.out) > MaxSize {
		return ErrNone
	}
	return nil
}

// together reads documents, one behind the other.
func together(ctx context.Context, src index.Source, objects []repo.Object) ([]byte, error) {
	all := make([]byte, 0, sizeOf(objects))
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		text, err := src.Document(ctx, o)
		if err != nil {
			return nil, err
		}
		all = append(all, text...)
	}
	return all, nil
}
