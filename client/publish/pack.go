package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stork/repo"
)

// A pack holds documents one behind the other: a line with the digest and the
// size in bytes, the document, a line feed. One file for each signed version
// costs one fsync where a file for each document would cost thousands.
const packSuffix = ".docs"

// place is where a document lies.
type place struct {
	path   string
	offset int64
}

// packs are the documents of one role, on disk. It is an index.Source.
type packs struct {
	files  []string
	places map[repo.Object]place
}

// openPacks reads the headings of every pack in dir. Documents are checked
// when they are read.
func openPacks(dir string) (*packs, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+packSuffix))
	if err != nil {
		return nil, err
	}
	p := &packs{files: files, places: map[repo.Object]place{}}
	for _, path := range files {
		if err := p.scan(path); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", path, err)
		}
	}
	return p, nil
}

func (p *packs) scan(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, offset := bufio.NewReaderSize(f, 1<<20), int64(0)
	for {
		heading, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && heading == "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no heading at byte %d: %w", offset, err)
		}
		object, err := parseHeading(heading)
		if err != nil {
			return err
		}
		offset += int64(len(heading))
		p.places[object] = place{path, offset}
		if _, err := r.Discard(int(object.Size) + 1); err != nil {
			return fmt.Errorf("it ends inside %s: %w", object.Digest, err)
		}
		offset += object.Size + 1
	}
}

func parseHeading(line string) (repo.Object, error) {
	name, number, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	digest, err := repo.ParseDigest(name)
	size, sizeErr := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || sizeErr != nil || size < 0 {
		return repo.Object{}, fmt.Errorf("%q is no heading", line)
	}
	return repo.Object{Digest: digest, Size: size}, nil
}

// Document implements [stork/repo/index.Source].
func (p *packs) Document(_ context.Context, object repo.Object) ([]byte, error) {
	at, ok := p.places[object]
	if !ok {
		return nil, fmt.Errorf("document %s is not kept here", object.Digest)
	}
	f, err := os.Open(at.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, object.Size)
	if _, err := f.ReadAt(b, at.offset); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", at.path, err)
	}
	if repo.ObjectOf(b) != object {
		return nil, fmt.Errorf("cannot read %s: document %s is damaged", at.path, object.Digest)
	}
	return b, nil
}

// packReader returns the stream of a pack with these documents, in the order
// of their digests. fetch brings one when its turn comes.
func packReader(objects []repo.Object, fetch func(repo.Object) ([]byte, error)) io.Reader {
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(a, b repo.Object) int { return strings.Compare(a.Digest.Hex(), b.Digest.Hex()) })
	return &packStream{objects: slices.Compact(objects), fetch: fetch}
}

type packStream struct {
	objects []repo.Object
	fetch   func(repo.Object) ([]byte, error)
	rest    []byte
}

// Read implements [io.Reader].
func (s *packStream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if len(s.objects) == 0 {
			return 0, io.EOF
		}
		o := s.objects[0]
		b, err := s.fetch(o)
		if err != nil {
			return 0, err
		}
		s.objects = s.objects[1:]
		s.rest = fmt.Appendf(nil, "%s %d\n%s\n", o.Digest, o.Size, b)
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
