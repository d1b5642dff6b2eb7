package rpmfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cavaliergopher/rpm"
)

// The parts before the payload: a lead of fixed size, the signature header
// padded to 8 bytes, the header. A header is 16 bytes of introduction, an
// index of 16 bytes for each tag, and the store that the index points into.
const (
	leadSize  = 96
	introSize = 16
	indexSize = 16

	// maxStore bounds index and store of one header, as the library does.
	maxStore = 32 << 20
	// maxSignature bounds the signature header: OpenPGP and IMA signatures, a few KB for each file.
	maxSignature = 8 << 20
)

var (
	leadMagic   = []byte{0xed, 0xab, 0xee, 0xdb}
	headerMagic = []byte{0x8e, 0xad, 0xe8}
)

// preamble is everything before the payload.
type preamble struct {
	signature header
	main      header
	raw       []byte // the header as it stands in the file, which signature digests cover
}

// readPreamble reads up to the payload. It checks the framing itself, every
// index entry against its store, before the library sees a byte: the library
// allocates what an index entry asks for and trusts strings to end.
func readPreamble(r io.Reader) (*preamble, error) {
	lead := make([]byte, leadSize)
	if err := readFull(r, lead, "lead"); err != nil {
		return nil, err
	}
	if !bytes.Equal(lead[:4], leadMagic) {
		return nil, malformed("this is no RPM package")
	}
	if kind := binary.BigEndian.Uint16(lead[6:]); kind == 1 {
		return nil, unsupported("it is a source package: build it and publish what comes out")
	}
	signature, err := readHeader(r, maxSignature, "signature header")
	if err != nil {
		return nil, err
	}
	pad := make([]byte, -len(signature)&7)
	if err := readFull(r, pad, "signature header"); err != nil {
		return nil, err
	}
	raw, err := readHeader(r, maxStore, "header")
	if err != nil {
		return nil, err
	}
	return parsePreamble(signature, pad, raw)
}

// parsePreamble hands checked bytes to the library, which takes a short Read
// for a full one: each of its reads ends where one of these parts ends or
// before. The lead that it gets is our own: nothing in the package's is of
// use.
func parsePreamble(signature, pad, raw []byte) (*preamble, error) {
	lead := make([]byte, leadSize)
	copy(lead, leadMagic)
	lead[4] = 3
	parsed, err := rpm.Read(io.MultiReader(bytes.NewReader(lead), bytes.NewReader(signature),
		bytes.NewReader(pad), bytes.NewReader(raw)))
	if err != nil {
		return nil, malformed("%v", err)
	}
	return &preamble{signature: header{tags: &parsed.Signature}, main: header{tags: &parsed.Header}, raw: raw}, nil
}

// readHeader reads one header and checks it. It returns its bytes.
func readHeader(r io.Reader, limit int, what string) ([]byte, error) {
	intro := make([]byte, introSize)
	if err := readFull(r, intro, what); err != nil {
		return nil, err
	}
	if !bytes.Equal(intro[:3], headerMagic) || intro[3] != 1 {
		return nil, malformed("its %s does not begin as one", what)
	}
	count, size := int64(binary.BigEndian.Uint32(intro[8:])), int64(binary.BigEndian.Uint32(intro[12:]))
	if count == 0 || count*indexSize > int64(limit) || size > int64(limit) {
		return nil, malformed("its %s has %d tags in %d bytes, more than the limit of %d bytes", what, count, size, limit)
	}
	body, err := readBody(r, intro, count*indexSize+size, what)
	if err != nil {
		return nil, err
	}
	if err := checkIndex(body[introSize:introSize+count*indexSize], body[introSize+count*indexSize:]); err != nil {
		return nil, malformed("its %s: %w", what, err)
	}
	return body, nil
}

// readBody reads size bytes behind intro. Memory grows with what has arrived,
// not with what was announced.
func readBody(r io.Reader, intro []byte, size int64, what string) ([]byte, error) {
	buf := bytes.NewBuffer(intro)
	buf.Grow(int(min(size, 1<<20)))
	n, err := io.CopyN(buf, r, size)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n < size {
		return nil, malformed("it ends inside its %s", what)
	}
	return buf.Bytes(), nil
}

func readFull(r io.Reader, p []byte, what string) error {
	_, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it ends inside its %s", what)
	}
	return err
}

// widths are the bytes of one value, by type: null, char, int8, int16, int32,
// int64, string, binary, string array, translated string. Strings are
// measured.
var widths = [...]int64{0, 1, 1, 2, 4, 8, 0, 1, 0, 0}

// checkIndex holds every index entry to the store: known type, values within
// the store, strings that end, no tag twice. All values together take no more
// than the store has, as in every package that rpm itself accepts, so the
// library can not be made to copy the store once for each entry.
func checkIndex(index, store []byte) error {
	seen := make(map[uint32]bool, len(index)/indexSize)
	total := int64(0)
	for entry := range chunks(index, indexSize) {
		tag, kind := binary.BigEndian.Uint32(entry), binary.BigEndian.Uint32(entry[4:])
		offset, count := int64(binary.BigEndian.Uint32(entry[8:])), int64(binary.BigEndian.Uint32(entry[12:]))
		if seen[tag] {
			return fmt.Errorf("tag %d stands twice", tag)
		}
		seen[tag] = true
		if kind >= uint32(len(widths)) || count == 0 || offset >= int64(len(store)) {
			return fmt.Errorf("tag %d has type %d, %d values at offset %d", tag, kind, count, offset)
		}
		used := count * widths[kind]
		if kind >= 6 && kind != 7 {
			used = stringsLength(store[offset:], count)
		}
		if used < 0 || used > int64(len(store))-offset {
			return fmt.Errorf("tag %d ends outside of the store", tag)
		}
		if total += used; total > int64(len(store)) {
			return errors.New("values overlap")
		}
	}
	return nil
}

// chunks yields b in pieces of n bytes; len(b) is a multiple of n.
func chunks(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) >= n; b = b[n:] {
			if !yield(b[:n]) {
				return
			}
		}
	}
}

// stringsLength returns how many bytes count NUL-terminated strings take at
// the start of store, or -1 if they do not end there.
func stringsLength(store []byte, count int64) int64 {
	if count > int64(len(store)) {
		return -1
	}
	used := int64(0)
	for range count {
		end := bytes.IndexByte(store[used:], 0)
		if end < 0 {
			return -1
		}
		used += int64(end) + 1
	}
	return used
}
