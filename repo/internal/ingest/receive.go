package ingest

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"stork/repo"
	"stork/repo/api"
)

// Receive reads a tar stream of declared objects into a session. What has
// arrived whole stays, whatever becomes of the rest of the stream. Several
// streams may come at the same time.
func (i *Ingest) Receive(ctx context.Context, role repo.Role, id string, body io.Reader) (api.UploadProgress, error) {
	s, err := i.find(role, id)
	if err != nil {
		return api.UploadProgress{}, err
	}
	defer func() { s.leave(i.home.Now()) }()
	bounded := &io.LimitedReader{R: body, N: s.longest()}
	archive := tar.NewReader(bounded)
	for {
		if err := ctx.Err(); err != nil {
			return api.UploadProgress{}, err
		}
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return api.UploadProgress{Missing: s.missing()}, nil
		}
		if err == nil {
			err = i.receive(s, header, archive)
		} else {
			err = streamError(err)
		}
		if err != nil && bounded.N <= 0 {
			return api.UploadProgress{}, fmt.Errorf("%w: the stream is longer than all declared objects", ErrTooLarge)
		}
		if err != nil {
			return api.UploadProgress{}, err
		}
	}
}

// longest is how many bytes a stream may have that sends every object once:
// a sender who repeats himself for ever is cut off.
func (s *session) longest() int64 {
	const slack, headers = 1 << 20, 4 << 10 // of the stream, and of each member
	s.mu.Lock()
	defer s.mu.Unlock()
	total := int64(slack)
	for _, o := range s.objects {
		total += o.size + headers
	}
	return total
}

// streamError tells a malformed archive from a connection that broke.
func streamError(err error) error {
	if errors.Is(err, tar.ErrHeader) {
		return badRequest("%v", err)
	}
	return fmt.Errorf("cannot read the stream: %w", err)
}

// receive stores one member of a stream.
func (i *Ingest) receive(s *session, header *tar.Header, content io.Reader) error {
	d, err := repo.ParseHex(header.Name)
	if err != nil || header.Typeflag != tar.TypeReg {
		return badRequest("member %.80q is not a file named by a digest", header.Name)
	}
	wanted, err := s.claim(d, header.Size)
	if err != nil || !wanted {
		return err // tar skips the content of what is here already
	}
	err = i.store(s, d, content)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[d].state = stored; err != nil {
		s.objects[d].state = absent
	}
	return err
}

// claim says whether this stream is to store the object: it is declared with
// that size, is not here, and no other stream is at it.
func (s *session) claim(d repo.Digest, size int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[d]
	if o == nil {
		return false, badRequest("object %s was not declared", d)
	}
	if o.size != size {
		return false, badRequest("object %s comes with %d bytes, declared are %d", d, size, o.size)
	}
	if o.state != absent {
		return false, nil
	}
	o.state = arriving
	return true, nil
}

// store writes one object and hashes it on the way. The name is its final
// one: whether the content is good, the session's memory says, and after a
// restart its hash.
func (i *Ingest) store(s *session, d repo.Digest, content io.Reader) error {
	h := &hashing{r: content, hash: sha256.New()}
	disk := i.home.Disk()
	if _, err := disk.WriteFrom(s.path(d), h, 0o644); err != nil {
		if h.err != nil && !errors.Is(h.err, io.EOF) {
			return streamError(h.err)
		}
		return fmt.Errorf("cannot store object: %w", err)
	}
	if got := repo.Digest(h.hash.Sum(nil)); got != d {
		return errors.Join(mismatch("object %s arrived as %s", d, got), disk.Remove(s.path(d)))
	}
	return nil
}

// hashing hashes what passes, and remembers on which side an error was.
type hashing struct {
	r    io.Reader
	hash hash.Hash
	err  error
}

// Read implements io.Reader.
func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	h.err = err
	return n, err
}
