package rpmfile

import (
	"io"

	"stork/repo"
)

// Sink receives the content of one regular file. What it does not read is
// read for it; an error ends the walk and is returned as it is.
type Sink func(e Entry, content io.Reader) error

// Package is everything that a package file makes.
type Package struct {
	Record *repo.Record
	Files  *repo.FileList
	Info   *repo.Info // the dictionary of the record's swarm; nil if it has none
}

// Walk reads a whole package and hands every entry that has content to sink,
// in the payload's order.
func Walk(f File, sink Sink) (*Package, error) {
	reader, err := NewReader(f)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for {
		e, err := reader.Next()
		if err == io.EOF {
			return reader.Finish()
		}
		if err != nil {
			return nil, err
		}
		if !e.Content {
			continue
		}
		if err := sink(e, reader); err != nil {
			return nil, err
		}
	}
}

// Build reads a whole package.
func Build(f File) (*Package, error) {
	reader, err := NewReader(f)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return reader.Finish()
}

// Finish reads the stream to its end and checks that it was what the headers
// declare, no less and no more: every file with its size and digest, the
// payload's own digest, the size of the whole.
func (r *Reader) Finish() (p *Package, err error) {
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF {
		return nil, err
	}
	defer explain(&err)
	defer guard(&err)
	if err := r.drain(); err != nil {
		return nil, err
	}
	if err := r.complete(); err != nil {
		return nil, err
	}
	return r.assemble()
}

// drain reads what follows the archive, and ends reading.
func (r *Reader) drain() error {
	if err := r.archive.finish(); err != nil {
		return err
	}
	have, err := r.raw.window()
	if err != io.EOF {
		if err == nil {
			err = malformed("%d or more bytes follow its payload", len(have))
		}
		return payloadError(err)
	}
	r.Close() // from here on the source is ours
	return r.source.check(r.preamble)
}

// complete checks that nothing was missing, and gives hard links their
// digests.
func (r *Reader) complete() error {
	for i := range r.files.list {
		f := &r.files.list[i]
		if f.Has(repo.Ghost) {
			continue
		}
		content := r.files.content[i]
		if !r.seen[i] || f.Type == repo.Regular && !r.have[content] {
			return malformed("its payload lacks %q", f.Path)
		}
		f.Digest = r.files.list[content].Digest
	}
	return nil
}

// assemble returns what was read, after the same checks as a reader of the
// two documents makes.
func (r *Reader) assemble() (*Package, error) {
	list := &repo.FileList{Files: r.files.list, Format: repo.FileListFormat}
	if list.Files == nil {
		list.Files = []repo.File{}
	}
	if err := list.Check(); err != nil {
		return nil, malformed("%w", err)
	}
	text, object, err := list.Encode()
	if err != nil {
		return nil, err
	}
	if len(text) > repo.MaxFileList {
		return nil, unsupported("its file list is over %d bytes", repo.MaxFileList)
	}
	blob := r.source.digest()
	r.record.Blob = repo.Blob{Digest: blob.Digest, Format: repo.RPM, Size: blob.Size}
	r.record.FileList = object
	p := &Package{Record: r.record, Files: list}
	if r.source.pieces != nil {
		p.Info = r.source.pieces.Info(blob.Digest)
		r.record.Swarm = p.Info.Swarm()
	}
	text, _, err = r.record.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := repo.DecodeRecord(text); err != nil {
		return nil, malformed("%w", err)
	}
	return p, nil
}
