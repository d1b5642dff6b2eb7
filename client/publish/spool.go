package publish

import (
	"fmt"
	"io"
	"os"
	"sync"

	"stork/repo"
	"stork/repo/durable"
)

// spool holds records and file lists between reading packages and sending
// them: 60 000 packages would else take hundreds of megabytes of memory. The
// file has no name, so nothing of it stays. After a crash it is made anew
// from the packages.
type spool struct {
	mu   sync.Mutex
	file *os.File
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, durable.TempPrefix+"spool-*")
	if err != nil {
		return nil, fmt.Errorf("cannot make a spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot make a spool: %w", err)
	}
	return &spool{file: f}, nil
}

// put keeps b and returns where.
func (s *spool) put(b []byte) (content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.size
	if _, err := s.file.WriteAt(b, at); err != nil {
		return nil, fmt.Errorf("cannot write the spool: %w", err)
	}
	s.size += int64(len(b))
	return &spooled{s.file, at, int64(len(b))}, nil
}

func (s *spool) close() {
	s.file.Close() // only read from now on; there is nothing to lose
}

// content is where the bytes of an object come from.
type content interface {
	// open returns a new reader of the whole content. It may be called from
	// several goroutines.
	open() (io.ReadCloser, error)
}

type spooled struct {
	file   *os.File
	offset int64
	size   int64
}

func (s *spooled) open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, s.offset, s.size)), nil
}

// fileContent is a file of the publisher's.
type fileContent string

func (f fileContent) open() (io.ReadCloser, error) { return os.Open(string(f)) }

// document is a document of a pack.
type document struct {
	packs  *packs
	object repo.Object
}

func (d document) open() (io.ReadCloser, error) {
	at, ok := d.packs.places[d.object]
	if !ok {
		return nil, fmt.Errorf("document %s is not kept here", d.object.Digest)
	}
	f, err := os.Open(at.path)
	if err != nil {
		return nil, err
	}
	return &section{io.NewSectionReader(f, at.offset, d.object.Size), f}, nil
}

type section struct {
	io.Reader
	io.Closer
}
