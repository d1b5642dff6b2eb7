package ingest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/index"
)

// source reads what an upload names: from its session, else from the tree.
// With no session it reads the tree alone. It may be used by several
// goroutines.
type source struct {
	tree    func(path string) string
	session *session
}

// maxIndexDocument bounds what is read into memory: shards are the largest
// documents that are.
const maxIndexDocument = max(index.MaxShard, repo.MaxRecord, repo.MaxPolicy)

// locate returns where an object lies. The error wraps ErrIncomplete if it
// is not here.
func (s source) locate(what string, kind api.Kind, d repo.Digest) (string, error) {
	if s.session != nil {
		s.session.mu.Lock()
		o := s.session.objects[d]
		here := o != nil && o.state == stored && o.kind == kind
		s.session.mu.Unlock()
		if here {
			return s.session.path(d), nil
		}
	}
	path := s.tree(treePath(kind, d))
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return "", missing(what, d)
	}
	return path, nil
}

// Document implements index.Source.
func (s source) Document(_ context.Context, o repo.Object) ([]byte, error) {
	if o.Size < 0 || o.Size > maxIndexDocument {
		return nil, fmt.Errorf("%w: document %s has %d bytes", ErrTooLarge, o.Digest, o.Size)
	}
	path, err := s.locate("document", api.Data, o.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read document: %w", err)
	}
	defer f.Close()
	b := make([]byte, o.Size+1)
	n, err := io.ReadFull(f, b)
	if err != io.ErrUnexpectedEOF && err != io.EOF || int64(n) != o.Size {
		return nil, mismatch("document %s does not have %d bytes", o.Digest, o.Size)
	}
	if b = b[:n]; repo.DigestOf(b) != o.Digest {
		return nil, mismatch("document %s does not have its digest", o.Digest)
	}
	return b, nil
}

// digestOf hashes what r has, up to max bytes and one more.
func digestOf(r io.Reader, max int64) (repo.Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, max+1))
	return repo.Digest(h.Sum(nil)), n, err
}
