package rpmfile

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"

	"stork/repo"
)

// content is what is left of the current entry's content. The zero content is
// none.
type content struct {
	open   bool
	place  int
	left   int64
	sha256 hash.Hash
	other  hash.Hash // of the header's algorithm, if it is another one
	header cpioEntry
	sum    uint32 // of all bytes, for archives with checksums
}

func (r *Reader) newContent(place int, header cpioEntry) (content, error) {
	c := content{open: true, place: place, left: header.size, sha256: sha256.New(), header: header}
	if r.files.algo == algoSHA256 || r.files.digests[place] == nil {
		return c, nil
	}
	var err error
	c.other, err = r.files.algo.new()
	return c, err
}

// window returns some of the current entry's content, io.EOF behind its end.
func (r *Reader) window() (p []byte, err error) {
	c := &r.current
	if !c.open {
		return nil, io.EOF
	}
	if r.err != nil {
		return nil, r.err
	}
	defer func() {
		if err != nil && err != io.EOF {
			r.err = err
		}
	}()
	defer explain(&err)
	defer guard(&err)
	if c.left == 0 {
		return nil, r.endContent()
	}
	return r.archive.window(c.left)
}

// consume hashes and drops what a window showed.
func (r *Reader) consume(p []byte) {
	c := &r.current
	c.sha256.Write(p)
	if c.other != nil {
		c.other.Write(p)
	}
	if c.header.summed {
		for _, b := range p {
			c.sum += uint32(b)
		}
	}
	c.left -= int64(len(p))
	r.archive.advance(len(p))
}

// endContent compares a whole file with what the header says of it, and
// returns io.EOF if it is that. All hard links get the digest.
func (r *Reader) endContent() error {
	c := &r.current
	c.open = false
	f := &r.files.list[c.place]
	got, want := c.sha256.Sum(nil), r.files.digests[c.place]
	f.Digest = repo.Digest(got)
	if c.other != nil {
		got = c.other.Sum(nil)
	}
	if want != nil && !bytes.Equal(got, want) {
		return malformed("%q is damaged: its digest is %x, the header says %x", f.Path, got, want)
	}
	if c.header.summed && c.sum != c.header.sum {
		return malformed("%q is damaged: its checksum is %08x, the payload says %08x", f.Path, c.sum, c.header.sum)
	}
	if err := r.archive.pad(); err != nil {
		return err
	}
	return io.EOF
}

// skip reads the rest of the current entry.
func (r *Reader) skip() error {
	for {
		p, err := r.window()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		r.consume(p)
	}
}

// Read reads the current entry's content, and io.EOF at its end; an error in
// its place if the content is not what the header says.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	have, err := r.window()
	if err != nil {
		return 0, err
	}
	n := copy(p, have)
	r.consume(have[:n])
	return n, nil
}

// WriteTo implements [io.WriterTo]: it writes the current entry's content
// without another buffer.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	total := int64(0)
	for {
		have, err := r.window()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(have)
		r.consume(have[:n])
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}
