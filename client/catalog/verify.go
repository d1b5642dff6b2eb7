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
	record, err := a.shelf.verify(ctx, a.Entry)
	if err != nil {
		return nil, fmt.Errorf("cannot verify %s of %s: %w", a.Entry.NEVRA(), a.Ref.Publisher, err)
	}
	return record, nil
}

// verify holds an entry to the index that the publisher signed, and to the
// record that it names. Digests are checked where documents are read: see
// [memory].
func (s *shelf) verify(ctx context.Context, said index.Entry) (*repo.Record, error) {
	if err := s.checkRoot(ctx); err != nil {
		return nil, err
	}
	entries, err := index.Lookup(ctx, s.files, s.root, said.Name)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(entries, func(e index.Entry) bool { return reflect.DeepEqual(e, said) }) {
		return nil, fmt.Errorf("%w: it is not in the index as the nest described it", signing.ErrUntrusted)
	}
	b, err := s.files.Document(ctx, said.Record)
	if err != nil {
		return nil, err
	}
	record, err := repo.DecodeRecord(b)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(index.EntryOf(record, said.Record), said) {
		return nil, fmt.Errorf("%w: record and index entry differ", signing.ErrUntrusted)
	}
	return record, nil
}

// checkRoot refuses an index that was made for another publisher or another
// repository than the one whose role names it.
func (s *shelf) checkRoot(ctx context.Context) error {
	b, err := s.files.Document(ctx, s.root)
	if err != nil {
		return err
	}
	root, err := index.DecodeRoot(b)
	if err != nil {
		return err
	}
	if root.Publisher != s.publisher || root.Repository != s.repository {
		return fmt.Errorf("%w: the index is that of %s in repository %s", signing.ErrUntrusted, root.Publisher, root.Repository)
	}
	return nil
}

// FileList returns the verified file list of a candidate. It is large: an
// install does without it.
func (c *Catalog) FileList(ctx context.Context, a *Candidate) (*repo.FileList, error) {
	record, err := c.Verify(ctx, a)
	if err != nil {
		return nil, err
	}
	b, err := a.shelf.files.Document(ctx, repo.Object{Digest: record.FileList.Digest, Size: record.FileList.Size})
	if err != nil {
		return nil, fmt.Errorf("cannot read the file list of %s: %w", a.Entry.NEVRA(), err)
	}
	return repo.DecodeFileList(b)
}

// Recorded returns the file list of a package by its record, which the caller
// has verified before: no index, policy or key is needed. Both are held to
// their digests.
func Recorded(ctx context.Context, files Files, record repo.Object) (*repo.FileList, error) {
	m := remember(files)
	b, err := m.Document(ctx, record)
	if err != nil {
		return nil, fmt.Errorf("cannot read record %s: %w", record.Digest.Short(), err)
	}
	r, err := repo.DecodeRecord(b)
	if err != nil {
		return nil, err
	}
	if b, err = m.Document(ctx, repo.Object{Digest: r.FileList.Digest, Size: r.FileList.Size}); err != nil {
		return nil, fmt.Errorf("cannot read the file list of %s: %w", r.NEVRA(), err)
	}
	return repo.DecodeFileList(b)
}
