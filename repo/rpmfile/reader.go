package rpmfile

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"stork/repo"
)

// Reader reads one package from a stream. It is used by one goroutine at a
// time.
type Reader struct {
	source   *source
	preamble *preamble
	files    *files
	record   *repo.Record
	raw      *stream // the payload as it is
	plain    *stream // decompressed
	release  func()  // the decompressor's memory
	archive  *cpioReader

	current content // of the current entry
	seen    []bool  // by place: the payload had the entry
	have    []bool  // by place of content: it was there
	err     error   // the first error, or io.EOF after the last entry
}

// File is a package file that is read from its beginning. How many bytes it
// has is known before: how long the pieces of its swarm are depends on it. An
// [io.SectionReader] is one; [FromStart] makes it.
type File interface {
	io.Reader
	Size() int64
}

// FromStart reads an open file from its beginning, as long as it is now.
func FromStart(f *os.File) (File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read package: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read package: %s is not a file", f.Name())
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

// NewReader reads the package's headers from f, and checks them. Read it to
// its end with [Reader.Finish], and call [Reader.Close] in any case.
func NewReader(f File) (reader *Reader, err error) {
	defer explain(&err)
	defer guard(&err)
	reader = &Reader{source: newSource(f), release: func() {}}
	if reader.preamble, err = readPreamble(reader.source); err != nil {
		return nil, err
	}
	if err := reader.source.expect(reader.preamble); err != nil {
		return nil, err
	}
	h := &reader.preamble.main
	if format := h.text(tagPayloadFormat); format != "" && format != "cpio" {
		return nil, unsupported("its payload has the format %q", format)
	}
	if reader.files, err = readFiles(h); err != nil {
		return nil, err
	}
	if reader.record, err = readRecord(h, reader.files); err != nil {
		return nil, err
	}
	reader.seen = make([]bool, len(reader.files.list))
	reader.have = make([]bool, len(reader.files.list))
	if err := reader.open(h.text(tagPayloadCompressor)); err != nil {
		reader.Close()
		return nil, err
	}
	return reader, nil
}

// explain says what was being done when err happened.
func explain(err *error) {
	if *err != nil && *err != io.EOF {
		*err = fmt.Errorf("cannot read package: %w", *err)
	}
}

func (r *Reader) open(compressor string) error {
	r.raw = newStream(r.source)
	plain, release, err := decompressor(compressor, r.raw)
	if err != nil {
		return err
	}
	r.release = release
	r.plain = r.raw
	if plain != io.Reader(r.raw) {
		r.plain = newStream(plain)
	}
	r.archive = &cpioReader{in: r.plain}
	return nil
}

// Close ends the reader's goroutines. A read in flight on the underlying
// stream must return first.
func (r *Reader) Close() {
	for _, s := range []*stream{r.plain, r.raw} {
		if s != nil {
			s.cancel()
		}
	}
	for _, s := range []*stream{r.plain, r.raw} {
		if s != nil {
			s.wait()
		}
	}
	r.release()
	r.release = func() {}
	if r.err == nil {
		r.err = errClosed
	}
}

// Declared returns the whole file list, with digests, as the header has it
// before any content is read; Finish returns the same, once everything was
// seen to hold. It reports false if the header's digests are not SHA-256: the
// content must be read then. The caller must not change the list.
func (r *Reader) Declared() (*repo.FileList, bool) {
	list := &repo.FileList{Files: r.files.list, Format: repo.FileListFormat}
	if list.Files == nil {
		list.Files = []repo.File{}
	}
	for i := range list.Files {
		f := &list.Files[i]
		if f.Type != repo.Regular || f.Has(repo.Ghost) {
			continue
		}
		if r.files.algo != algoSHA256 || r.files.digests[i] == nil {
			return nil, false
		}
		f.Digest = repo.Digest(r.files.digests[i])
	}
	return list, true
}

// Next moves to the next entry of the payload, in the payload's order; it
// skips what was not read of the current one. It returns io.EOF after the
// last one.
func (r *Reader) Next() (e Entry, err error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	defer func() { r.err = err }()
	defer explain(&err)
	defer guard(&err)
	if err := r.skip(); err != nil {
		return Entry{}, err
	}
	for {
		header, err := r.archive.next()
		if err != nil {
			return Entry{}, err
		}
		place, err := r.files.find(header)
		if err != nil {
			return Entry{}, err
		}
		if place == dropped {
			continue
		}
		return r.enter(place, header)
	}
}

// enter begins the entry at place.
func (r *Reader) enter(place int, header cpioEntry) (Entry, error) {
	f := &r.files.list[place]
	if r.seen[place] || f.Has(repo.Ghost) {
		return Entry{}, malformed("%q is in its payload twice, or is no part of it", f.Path)
	}
	r.seen[place] = true
	e := Entry{Index: r.files.content[place], Path: f.Path, Type: f.Type}
	switch {
	case f.Type == repo.Regular:
		return e, r.enterFile(&e, place, header)
	case f.Type == repo.Symlink:
		return e, r.readTarget(f, header)
	case header.size != 0:
		return Entry{}, malformed("%q is no file and has content", f.Path)
	}
	return e, nil
}

// enterFile begins a regular file. Of hard links one has the content; the
// others have none, unless all are empty.
func (r *Reader) enterFile(e *Entry, place int, header cpioEntry) error {
	f := &r.files.list[place]
	if header.stripped && (r.files.links[e.Index] == 1 || r.files.last[e.Index] == place) {
		header.size = f.Size
	}
	if header.size != f.Size && (header.size != 0 || r.files.links[e.Index] == 1) {
		return malformed("%q has %d bytes in its payload and %d in its header", f.Path, header.size, f.Size)
	}
	if header.size != f.Size || r.have[e.Index] {
		if header.size != 0 {
			return malformed("%q has content under two names", f.Path)
		}
		return nil
	}
	r.have[e.Index] = true
	e.Content, e.Size = true, f.Size
	var err error
	r.current, err = r.newContent(e.Index, header)
	return err
}

// readTarget reads a symbolic link's target, which stands in the header too.
// In a stripped archive its length is the file's size.
func (r *Reader) readTarget(f *repo.File, header cpioEntry) error {
	if header.stripped {
		header.size = int64(len(f.Link))
	}
	if header.size != int64(len(f.Link)) {
		return malformed("%q points elsewhere in its payload than in its header", f.Path)
	}
	target, err := r.archive.take(int(header.size))
	if err != nil {
		return err
	}
	if !bytes.Equal(target, []byte(f.Link)) {
		return malformed("%q points to %q in its payload and to %q in its header", f.Path, target, f.Link)
	}
	return r.archive.pad()
}

// find returns the place of an archive entry in the file list. Its type must
// be that of the header; of the rest the header's word counts, as in rpm.
func (f *files) find(e cpioEntry) (int, error) {
	if e.stripped {
		if e.number >= int64(len(f.position)) {
			return 0, malformed("its payload has a file %d of %d", e.number, len(f.position))
		}
		return f.position[e.number], nil
	}
	path := archivePath(e.name)
	if path == "/" {
		return dropped, nil
	}
	place, ok := f.byPath[path]
	if !ok {
		return 0, malformed("its payload has %q, which its header does not list", e.name)
	}
	if kind, err := typeOf(int64(e.mode)); err != nil || kind != f.list[place].Type {
		return 0, malformed("%q has another type in its payload than in its header", path)
	}
	return place, nil
}

// archivePath makes a path of an archive name: "./usr", "usr" or "/usr".
func archivePath(name string) string {
	if len(name) > 0 && name[0] == '.' && (len(name) == 1 || name[1] == '/') {
		name = name[1:]
	}
	if len(name) == 0 || name[0] != '/' {
		name = "/" + name
	}
	return name
}
