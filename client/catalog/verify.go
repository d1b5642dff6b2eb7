package catalog

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/signing/trust"
)

// Verify reads the candidates' shards and records, from the signed index root
// down, and returns the records. It fails with [trust.ErrUntrusted] if they
// do not say what the nest said.
func (c *Catalog) Verify(ctx context.Context, candidates ...*Candidate) ([]*repo.Record, error) {
	if err := bring(ctx, candidates); err != nil {
		return nil, fmt.Errorf("cannot read what verifies the packages: %w", err)
	}
	records := make([]*repo.Record, len(candidates))
	for i, a := range candidates {
		var err error
		if records[i], err = a.shelf.verify(ctx, a.Entry); err != nil {
			return nil, fmt.Errorf("cannot verify %s of %s: %w", a.Entry.NEVRA(), a.Ref.Publisher, err)
		}
	}
	return records, nil
}

// Prover is a repository's tree that brings the documents that verify many
// packages all at once. They need not be complete, or right.
type Prover interface {
	Proof(ctx context.Context, index repo.Digest, packages []api.ProofPackage) ([][]byte, error)
}

// bring has the documents ready that verifying will ask for, shelf by shelf.
func bring(ctx context.Context, candidates []*Candidate) error {
	missing := map[*shelf][]api.ProofPackage{}
	for _, a := range candidates {
		if o := a.Entry.Record; !a.shelf.files.has(o) {
			missing[a.shelf] = append(missing[a.shelf], api.ProofPackage{Name: a.Entry.Name, Record: o.Digest})
		}
	}
	for s, packages := range missing {
		prover, ok := s.files.Files.(Prover)
		if !ok {
			continue
		}
		for part := range slices.Chunk(packages, api.MaxProof) {
			documents, err := prover.Proof(ctx, s.root.Digest, part)
			if err != nil {
				return err
			}
			s.files.keep(documents)
		}
	}
	return nil
}

// verify holds an entry to the index that the publisher signed, and to the
// record that it names. Digests are checked where documents are read: see
// [memory].
func (s *shelf) verify(ctx context.Context, said index.Entry) (*repo.Record, error) {
	finder, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := finder.Named(ctx, said.Name)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(entries, func(e index.Entry) bool { return reflect.DeepEqual(e, said) }) {
		return nil, fmt.Errorf("%w: it is not in the index as the nest described it", trust.ErrUntrusted)
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
		return nil, fmt.Errorf("%w: record and index entry differ", trust.ErrUntrusted)
	}
	return record, nil
}

// open reads the index root, once. It refuses an index that was made for
// another publisher or another repository than the one whose role names it.
func (s *shelf) open(ctx context.Context) (*index.Finder, error) {
	if s.finder != nil {
		return s.finder, nil
	}
	f, err := index.Find(ctx, s.files, s.root)
	if err != nil {
		return nil, err
	}
	if f.Root.Publisher != s.publisher || f.Root.Repository != s.repository {
		return nil, fmt.Errorf("%w: the index is that of %s in repository %s", trust.ErrUntrusted, f.Root.Publisher, f.Root.Repository)
	}
	s.finder = f
	return f, nil
}

// FileList returns the verified file list of a candidate. It is large: an
// install does without it.
func (c *Catalog) FileList(ctx context.Context, a *Candidate) (*repo.FileList, error) {
	records, err := c.Verify(ctx, a)
	if err != nil {
		return nil, err
	}
	list := records[0].FileList
	b, err := a.shelf.files.Document(ctx, repo.Object{Digest: list.Digest, Size: list.Size})
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
