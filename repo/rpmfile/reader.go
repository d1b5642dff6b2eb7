package rpmfile

import (
	"errors"
	"io"

	"stork/repo"
)

// Reader reads one package from a stream.
type Reader struct{}

// NewReader reads the package's headers from r. Read it to its end with
// [Reader.Finish], and call [Reader.Close] in any case.
func NewReader(r io.Reader) (*Reader, error) { return nil, errors.ErrUnsupported }

// Files returns the package's sorted file list as the header declares it,
// before content is read: without digests. The caller must not change it.
func (r *Reader) Files() []repo.File { return nil }

// Next moves to the next entry of the payload, in the payload's order. It
// returns io.EOF after the last one.
func (r *Reader) Next() (Entry, error) { return Entry{}, errors.ErrUnsupported }

// Read reads the current entry's content, and io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// Finish reads the stream to its end and returns what it held.
func (r *Reader) Finish() (*repo.Record, *repo.FileList, error) {
	return nil, nil, errors.ErrUnsupported
}

// Close ends the reader's goroutines. A read in flight on the underlying
// stream must return first.
func (r *Reader) Close() {}

// Sink receives the content of one regular file.
type Sink func(e Entry, content io.Reader) error

// Walk reads a whole package and hands every entry that has content to sink.
func Walk(r io.Reader, sink Sink) (*repo.Record, *repo.FileList, error) {
	return nil, nil, errors.ErrUnsupported
}

// Build reads a whole package and returns its record and file list.
func Build(r io.Reader) (*repo.Record, *repo.FileList, error) { return nil, nil, errors.ErrUnsupported }
