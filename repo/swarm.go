package repo

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// MinSwarm is the size in bytes above which a blob has a swarm: below, to
// find peers costs more than to fetch it.
const MinSwarm = 64 << 10

// Pieces are as small as leaves at most so many of them, for what a peer has
// it can pass on only by whole pieces, and within these bounds, in bytes.
const (
	maxPieces      = 1024
	minPieceLength = 16 << 10
	maxPieceLength = 8 << 20
)

// MaxInfo is the size in bytes that no info dictionary exceeds.
const MaxInfo = (MaxBlob/maxPieceLength)*sha1.Size + 256

// InfoHash is the SHA-1 of an info dictionary, by which peers and trackers
// name a swarm (BEP 3). Its text form is 40 lower-case hexadecimal digits. It
// proves nothing: what comes out of a swarm is checked by its [Digest].
type InfoHash [sha1.Size]byte

// ParseInfoHash reads the text form.
func ParseInfoHash(s string) (InfoHash, error) {
	var h InfoHash
	if len(s) != hex.EncodedLen(len(h)) || strings.ToLower(s) != s {
		return h, errors.New("cannot parse info hash: want 40 lower-case hexadecimal digits")
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return InfoHash{}, errors.New("cannot parse info hash: want 40 lower-case hexadecimal digits")
	}
	return h, nil
}

// String returns the text form.
func (h InfoHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (h InfoHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *InfoHash) UnmarshalText(b []byte) (err error) {
	*h, err = ParseInfoHash(string(b))
	return err
}

// Swarm says how peers name a blob. It is a function of the blob.
type Swarm struct {
	Info        Digest   `json:"info"` // of the info dictionary, which is served as a document
	InfoHash    InfoHash `json:"info_hash"`
	PieceLength int64    `json:"piece_length"` // bytes
}

// PieceLength returns how long the pieces of a blob of that many bytes are:
// the smallest power of two from 16 KiB on that makes at most 1024 of it, but
// at most 8 MiB. It returns 0 if the blob has no swarm.
func PieceLength(size int64) int64 {
	if size <= MinSwarm {
		return 0
	}
	length := int64(minPieceLength)
	for length < maxPieceLength && length*maxPieces < size {
		length *= 2
	}
	return length
}

// Info is the info dictionary of a blob (BEP 3, single file; BEP 27).
type Info struct {
	Blob   Digest // its hexadecimal digits are the file's name
	Size   int64  // of the blob, in bytes
	Pieces []byte // the SHA-1 of every piece, one behind the other
}

// PieceLength returns how many bytes every piece but the last has.
func (i *Info) PieceLength() int64 { return PieceLength(i.Size) }

// Count returns how many pieces there are.
func (i *Info) Count() int { return len(i.Pieces) / sha1.Size }

// Encode returns the dictionary in bencoding, which has one form only.
func (i *Info) Encode() []byte {
	b := infoHead(i.Blob, i.Size, len(i.Pieces))
	b = append(b, i.Pieces...)
	return append(b, infoTail...)
}

const infoTail = "7:privatei1ee"

// infoHead is everything before the pieces.
func infoHead(blob Digest, size int64, pieces int) []byte {
	return fmt.Appendf(nil, "d6:lengthi%de4:name64:%s12:piece lengthi%de6:pieces%d:", size, blob.Hex(), PieceLength(size), pieces)
}

// pieceBytes is the size in bytes of all pieces' sums.
func pieceBytes(size int64) int64 {
	length := PieceLength(size)
	return (size + length - 1) / length * sha1.Size
}

// Swarm returns what a record says of the dictionary.
func (i *Info) Swarm() *Swarm {
	b := i.Encode()
	return &Swarm{Info: DigestOf(b), InfoHash: sha1.Sum(b), PieceLength: i.PieceLength()}
}

// DecodeInfo reads an info dictionary. It refuses every other than the one
// that [PieceHasher] makes of a blob with that name, size and pieces.
func DecodeInfo(b []byte) (*Info, error) {
	i := new(Info)
	rest, err := i.decodeHead(b)
	if err != nil {
		return nil, fmt.Errorf("cannot decode info dictionary: %w", err)
	}
	want := pieceBytes(i.Size)
	if int64(len(rest)) != want+int64(len(infoTail)) {
		return nil, errors.New("cannot decode info dictionary: it does not have the pieces of its length")
	}
	i.Pieces = bytes.Clone(rest[:want])
	if !bytes.Equal(i.Encode(), b) {
		return nil, errors.New("cannot decode info dictionary: not in the form that a package's has")
	}
	return i, nil
}

// decodeHead reads as much as tells what must follow, and returns what does,
// from the pieces on.
func (i *Info) decodeHead(b []byte) ([]byte, error) {
	if len(b) > MaxInfo {
		return nil, fmt.Errorf("over %d bytes", MaxInfo)
	}
	form := errors.New("not in the form that a package's has")
	rest, ok := bytes.CutPrefix(b, []byte("d6:lengthi"))
	number, rest, end := bytes.Cut(rest, []byte("e4:name64:"))
	if !ok || !end || len(rest) < len(Digest{})*2 {
		return nil, form
	}
	var err error
	if i.Size, err = strconv.ParseInt(string(number), 10, 64); err != nil || i.Size <= MinSwarm || i.Size > MaxBlob {
		return nil, errors.New("its length is out of range")
	}
	if i.Blob, err = ParseHex(string(rest[:len(Digest{})*2])); err != nil {
		return nil, errors.New("its name is no digest")
	}
	head := infoHead(i.Blob, i.Size, int(pieceBytes(i.Size)))
	if !bytes.HasPrefix(b, head) {
		return nil, form
	}
	return b[len(head):], nil
}

// InfoObject names the info dictionary of the package's blob; false if it has
// no swarm.
func (r *Record) InfoObject() (Object, bool) {
	if r.Swarm == nil || PieceLength(r.Blob.Size) == 0 {
		return Object{}, false
	}
	pieces := pieceBytes(r.Blob.Size)
	size := int64(len(infoHead(r.Blob.Digest, r.Blob.Size, int(pieces)))) + pieces + int64(len(infoTail))
	return Object{Digest: r.Swarm.Info, Size: size}, true
}

// checkSwarm checks what can be without the dictionary.
func (r *Record) checkSwarm() error {
	length := PieceLength(r.Blob.Size)
	switch {
	case r.Swarm == nil && length == 0:
		return nil
	case r.Swarm == nil || length == 0:
		return fmt.Errorf("a blob has a swarm if it is larger than %d bytes, and only then", MinSwarm)
	case r.Swarm.Info.IsZero() || r.Swarm.PieceLength != length:
		return fmt.Errorf("a swarm of %d bytes has an info dictionary and pieces of %d bytes", r.Blob.Size, length)
	}
	return nil
}

// PieceHasher makes the info dictionary of a blob that is written to it.
type PieceHasher struct {
	size, length int64 // of the blob, of a piece
	left         int64 // of the current piece
	hash         hash.Hash
	sums         []byte
}

// NewPieceHasher expects a blob of that many bytes, which must have a swarm.
func NewPieceHasher(size int64) *PieceHasher {
	length := PieceLength(size)
	return &PieceHasher{size: size, length: length, left: length, hash: sha1.New()}
}

// Write implements [io.Writer]. It never fails.
func (h *PieceHasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(int64(len(p)), h.left)]
		h.hash.Write(part)
		p = p[len(part):]
		if h.left -= int64(len(part)); h.left == 0 {
			h.end()
		}
	}
	return n, nil
}

func (h *PieceHasher) end() {
	h.sums = h.hash.Sum(h.sums)
	h.hash.Reset()
	h.left = h.length
}

// Info returns the dictionary, when the whole blob has been written, which
// has that digest.
func (h *PieceHasher) Info(blob Digest) *Info {
	if h.left != h.length {
		h.end()
	}
	return &Info{Blob: blob, Size: h.size, Pieces: h.sums}
}
