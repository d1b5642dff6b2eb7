package catalog

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"stork/repo"
	"stork/repo/index"
	"stork/signing"
)

// Verify reads the candidate's shard and record, from the signed index root
// down, and returns the record. It fails with [signing.ErrUntrusted] if they
// do not say what the nest said.
func (c *Catalog) Verify(ctx context.Context, a *Candidate) (*repo.Record, error) {
	entries, err := index.Lookup(ctx, a.shelf.files, a.shelf.root, a.Entry.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot verify %s: %w", a.Entry.NEVRA(), err)
	}
	signed := slices.IndexFunc(entries, func(e index.Entry) bool { return e.Record == a.Entry.Record })
	if signed < 0 || !reflect.DeepEqual(entries[signed], a.Entry) {
		return nil, fmt.Errorf("cannot verify %s: %w: it is not in the index of %s as the nest described it",
			a.Entry.NEVRA(), signing.ErrUntrusted, a.Ref.Publisher)
	}
	b, err := a.shelf.files.Document(ctx, a.Entry.Record)
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of %s: %w", a.Entry.NEVRA(), err)
	}
	if repo.ObjectOf(b) != a.Entry.Record {
		return nil, fmt.Errorf("cannot verify %s: %w: its record is not the one in the index", a.Entry.NEVRA(), signing.ErrUntrusted)
	}
	record, err := repo.DecodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("cannot verify %s: %w", a.Entry.NEVRA(), err)
	}
	if !reflect.DeepEqual(index.EntryOf(record, a.Entry.Record), a.Entry) {
		return nil, fmt.Errorf("cannot verify %s: %w: record and index entry differ", a.Entry.NEVRA(), signing.ErrUntrusted)
	}
	return record, nil
}

// FileList returns the verified file list of a candidate. It is large: an
// install does without it.
func (c *Catalog) FileList(ctx context.Context, a *Candidate) (*repo.FileList, error) {
	record, err := c.Verify(ctx, a)
	if err != nil {
		return nil, err
	}
	object := repo.Object{Digest: record.FileList.Digest, Size: record.FileList.Size}
	b, err := a.shelf.files.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read the file list of %s: %w", a.Entry.NEVRA(), err)
	}
	if repo.ObjectOf(b) != object {
		return nil, fmt.Errorf("cannot verify %s: %w: its file list is not the one in the record", a.Entry.NEVRA(), signing.ErrUntrusted)
	}
	return repo.DecodeFileList(b)
}
