package transfer

import (
	"crypto/sha1" //nolint:gosec // what swarms use (BEP 3); the whole is always checked by SHA-256
	"errors"
	"fmt"
)

// Pieces are the SHA-1 hashes of a blob's pieces, as a torrent's info
// dictionary has them (BEP 3).
type Pieces struct {
	Length int64  // bytes of every piece but the last; a power of two
	Sums   []byte // 20 bytes for each piece
}

// The bounds of a piece's length, in bytes.
const (
	minPiece = 16 << 10
	maxPiece = 64 << 20
)

// check refuses pieces that do not fit a blob of that size.
func (p *Pieces) check(size int64) error {
	if p.Length < minPiece || p.Length > maxPiece || p.Length&(p.Length-1) != 0 {
		return fmt.Errorf("cannot use pieces of %d bytes", p.Length)
	}
	if want := (size + p.Length - 1) / p.Length * sha1.Size; int64(len(p.Sums)) != want {
		return errors.New("cannot use pieces: their number does not fit the blob's size")
	}
	return nil
}

// count returns how many pieces there are.
func (p *Pieces) count() int { return len(p.Sums) / sha1.Size }

// span returns where piece i lies.
func (p *Pieces) span(i int, size int64) Range {
	from := int64(i) * p.Length
	return Range{from, min(from+p.Length, size)}
}

// within returns the indexes of the pieces that r touches.
func (p *Pieces) within(r Range) (first, last int) {
	return int(r.From / p.Length), int((r.To - 1) / p.Length)
}

// matches reports whether b is piece i.
func (p *Pieces) matches(i int, b []byte) bool {
	sum := sha1.Sum(b)
	return string(sum[:]) == string(p.Sums[i*sha1.Size:(i+1)*sha1.Size])
}
