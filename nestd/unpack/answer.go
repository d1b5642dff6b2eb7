package unpack

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"stork/repo"
)

// An answer goes from the child to its parent, which is the same program: one
// byte that says whether the package was unpacked, then byte strings, each
// with its length before it (8 bytes, big-endian): record and file list, or
// why not. Nothing follows.
const (
	saysUnpacked = 1
	saysRefused  = 2
)

// maxReason is how many bytes of the child's reason are kept.
const maxReason = 4 << 10

type answer struct {
	result  Result
	refused string // the child's reason, harmless to print
	err     error  // there is no answer
}

// errCut says that an answer began and did not end.
var errCut = errors.New("the answer is cut short")

// readAnswer reads what a child says, and not more than the caller allows.
func readAnswer(r io.Reader, fileListSize int64) answer {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return answer{err: err} // io.EOF if the child said nothing
	}
	switch kind[0] {
	case saysRefused:
		reason, err := readString(r, maxReason)
		if err != nil {
			return answer{err: err}
		}
		return answer{refused: printable(string(reason))}
	case saysUnpacked:
	default:
		return answer{err: fmt.Errorf("unknown answer %d", kind[0])}
	}
	var a answer
	if a.result.Record, a.err = readString(r, repo.MaxRecord); a.err != nil {
		return a
	}
	if a.result.FileList, a.err = readString(r, fileListSize); a.err != nil {
		return a
	}
	if n, _ := r.Read(kind[:]); n != 0 {
		return answer{err: errors.New("text after the answer")}
	}
	return a
}

func readString(r io.Reader, most int64) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, errCut
	}
	size := binary.BigEndian.Uint64(head[:])
	if size > uint64(max(most, 0)) {
		return nil, fmt.Errorf("an answer of %d bytes, at most %d are allowed", size, most)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, errCut
	}
	return b, nil
}

func writeUnpacked(w io.Writer, result Result) error {
	b := appendString([]byte{saysUnpacked}, result.Record)
	_, err := w.Write(appendString(b, result.FileList))
	return err
}

func writeRefused(w io.Writer, reason error) error {
	text := []byte(reason.Error())
	_, err := w.Write(appendString([]byte{saysRefused}, text[:min(len(text), maxReason)]))
	return err
}

func appendString(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
}

// blobHash follows a blob to its end.
type blobHash struct {
	hash hash.Hash
	want repo.Object
	size int64
}

func newBlobHash(want repo.Object) *blobHash { return &blobHash{hash: sha256.New(), want: want} }

func (h *blobHash) add(b []byte) error {
	h.size += int64(len(b))
	if h.size > h.want.Size {
		return fmt.Errorf("%w: over %d bytes", ErrBlob, h.want.Size)
	}
	h.hash.Write(b)
	return nil
}

func (h *blobHash) check() error {
	if h.size != h.want.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrBlob, h.size, h.want.Size)
	}
	if got := repo.Digest(h.hash.Sum(nil)); got != h.want.Digest {
		return fmt.Errorf("%w: digest is %s instead of %s", ErrBlob, got, h.want.Digest)
	}
	return nil
}
