package rpmfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"stork/repo"
)

// source is the stream that a package is read from: it hashes and counts what
// passes. While a [stream] reads ahead it belongs to that goroutine.
type source struct {
	r       io.Reader
	blob    hash.Hash
	pieces  *repo.PieceHasher // nil if the blob has no swarm
	size    int64
	want    int64
	payload []expectation // what the header says of the bytes from start on
	start   int64
}

// expectation is a digest that the package carries of a part of itself.
type expectation struct {
	hash hash.Hash
	want []byte
	what string
}

func newSource(f File) *source {
	s := &source{r: f, blob: sha256.New(), want: f.Size()}
	if repo.PieceLength(s.want) != 0 {
		s.pieces = repo.NewPieceHasher(s.want)
	}
	return s
}

// Read implements [io.Reader]. Its errors other than io.EOF are marked, so
// that they are not taken for the package's.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.blob.Write(p[:n])
	if s.pieces != nil {
		s.pieces.Write(p[:n])
	}
	s.size += int64(n)
	for _, e := range s.payload {
		e.hash.Write(p[:n])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	return n, err
}

// digest returns what names everything that has passed.
func (s *source) digest() repo.Object {
	return repo.Object{Digest: repo.Digest(s.blob.Sum(nil)), Size: s.size}
}

// expect prepares the checks of the payload, whose first byte comes next, and
// checks the header against the digests in the signature header. A package
// without a payload digest has an MD5 sum of header and payload. The digest
// of the decompressed payload is left out: file digests cover it.
func (s *source) expect(p *preamble) error {
	s.start = s.size
	if err := checkHeaderDigests(p); err != nil {
		return err
	}
	if digests := p.main.strings(tagPayloadDigest); len(digests) > 0 {
		algo := algorithm(p.main.int(tagPayloadDigestAlgo))
		if algo == 0 {
			algo = algoSHA256
		}
		want, err := algo.parseDigest(digests[0])
		if err != nil || want == nil {
			return errors.Join(err, p.main.err)
		}
		h, err := algo.new()
		s.payload = append(s.payload, expectation{h, want, "payload"})
		return err
	}
	if want := p.signature.bytes(sigMD5); want != nil {
		h, err := algoMD5.new()
		if err != nil {
			return err
		}
		h.Write(p.raw)
		s.payload = append(s.payload, expectation{h, want, "payload"})
	}
	return p.main.err
}

func checkHeaderDigests(p *preamble) error {
	for tag, algo := range map[int]algorithm{sigSHA1: algoSHA1, sigSHA256: algoSHA256} {
		want, err := algo.parseDigest(p.signature.text(tag))
		if err != nil {
			return err
		}
		if want == nil {
			continue
		}
		h, err := algo.new()
		if err != nil {
			return err
		}
		h.Write(p.raw)
		if !bytes.Equal(h.Sum(nil), want) {
			return malformed("its header is damaged: the digest is %x, the signature header says %x", h.Sum(nil), want)
		}
	}
	return p.signature.err
}

// check compares, at the end of the stream, with what was expected.
func (s *source) check(p *preamble) error {
	if s.size != s.want {
		return malformed("it has %d bytes and not %d", s.size, s.want)
	}
	for _, e := range s.payload {
		if got := e.hash.Sum(nil); !bytes.Equal(got, e.want) {
			return malformed("its %s is damaged: the digest is %s, its header says %s", e.what,
				hex.EncodeToString(got), hex.EncodeToString(e.want))
		}
	}
	want := p.signature.int(sigSize)
	if p.signature.has(sigLongSize) {
		want = p.signature.int(sigLongSize)
	}
	if got := int64(len(p.raw)) + s.size - s.start; want != 0 && got != want {
		return malformed("header and payload have %d bytes, the signature header says %d", got, want)
	}
	return p.signature.err
}
