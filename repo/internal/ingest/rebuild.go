package ingest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/index"
	"stork/repo/rpmfile"
)

// rebuildAll makes the record of every added package again from its blob, a
// few at a time, and notes what has to be served for them. The first that
// differs ends it.
func (v *verification) rebuildAll(ctx context.Context, added []index.Entry, out *verified) error {
	out.documents = make([]repo.Digest, 0, 3*len(added))
	out.blobs = make([]repo.Digest, 0, len(added))
	var mu sync.Mutex // guards out
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(v.workers)
	for i := range added {
		if working.Err() != nil {
			break
		}
		group.Go(func() error {
			record, framed, err := v.rebuild(working, &added[i])
			if err != nil {
				return fmt.Errorf("%s: %w", added[i].NEVRA(), err)
			}
			mu.Lock()
			defer mu.Unlock()
			out.documents = append(out.documents, added[i].Record.Digest, record.FileList.Digest)
			if record.Swarm != nil {
				out.documents = append(out.documents, record.Swarm.Info)
			}
			out.blobs = append(out.blobs, record.Blob.Digest)
			if framed {
				out.frames = append(out.frames, record.Blob.Digest)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// rebuild checks one package: the record that the index names must be here
// and be the one that its blob makes, and the entry must be the record's. It
// reports whether the blob's frames were made on the way.
func (v *verification) rebuild(ctx context.Context, e *index.Entry) (record *repo.Record, framed bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	b, err := v.src.Document(ctx, e.Record)
	if err != nil {
		return nil, false, fmt.Errorf("record: %w", err)
	}
	given, err := repo.DecodeRecord(b)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if record, framed, err = v.parse(given); err != nil {
		return nil, false, err
	}
	again, _, err := record.Encode()
	if err != nil {
		return nil, false, err
	}
	if !bytes.Equal(again, b) {
		return nil, false, mismatch("its record is not the one that its blob makes")
	}
	if _, err := v.src.locate("file list", api.Data, record.FileList.Digest); err != nil {
		return nil, false, err
	}
	if record.Swarm != nil {
		if _, err := v.src.locate("info dictionary", api.Data, record.Swarm.Info); err != nil {
			return nil, false, err
		}
	}
	return record, framed, sameEntry(e, index.EntryOf(record, e.Record))
}

// parse reads a package's blob, and makes its frames. Whatever a hostile
// package does to the parser costs this upload and no more.
func (v *verification) parse(given *repo.Record) (record *repo.Record, framed bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = mismatch("its blob can not be read: %v", p)
		}
	}()
	path, err := v.src.locate("blob", api.Blob, given.Blob.Digest)
	if err != nil {
		return nil, false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read blob: %w", err)
	}
	defer f.Close()
	file, err := rpmfile.FromStart(f)
	if err != nil {
		return nil, false, err
	}
	reader, err := rpmfile.NewReader(file)
	if err != nil {
		return nil, false, err
	}
	defer reader.Close()
	if framed, err = v.writeFrames(reader, given.Blob); err != nil {
		return nil, false, err
	}
	pkg, err := reader.Finish()
	if err != nil {
		return nil, false, err
	}
	return pkg.Record, framed, nil
}

func sameEntry(given *index.Entry, built index.Entry) error {
	a, err := repo.EncodeCanonical(given)
	if err != nil {
		return err
	}
	b, err := repo.EncodeCanonical(built)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return mismatch("its index entry is not the one that its record makes")
	}
	return nil
}
