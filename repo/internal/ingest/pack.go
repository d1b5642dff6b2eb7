package ingest

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
	"stork/repo/index"
)

// writePack makes the pack of an index: all tables, then all shards, each
// document as it is, in order, in one zstd stream. Readers know from root and
// tables where each ends and what its digest is.
func (i *Ingest) writePack(ctx context.Context, tree *index.Tree, src source, path string) error {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(compressDocuments(ctx, w, tree, src))
	}()
	_, err := i.home.Disk().WriteFrom(path, r, 0o644)
	r.CloseWithError(context.Canceled) // ends the compression if the disk failed
	<-done
	if err != nil {
		return fmt.Errorf("cannot make pack: %w", err)
	}
	return nil
}

func compressDocuments(ctx context.Context, w io.Writer, tree *index.Tree, src source) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	for _, list := range [][]repo.Object{tree.Root.Tables, tree.Shards()} {
		for _, object := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := src.Document(ctx, object)
			if err != nil {
				return err
			}
			if _, err := z.Write(b); err != nil {
				return err
			}
		}
	}
	return z.Close()
}
