package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// digestPrefix names the only algorithm. It is written out so that another
// one can be added without guessing what an old file meant.
const digestPrefix = "sha256:"

// Digest is the SHA-256 of some content. Its text form is "sha256:" and 64
// lower-case hexadecimal digits. The zero Digest means "none".
type Digest [sha256.Size]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the text form.
func ParseDigest(s string) (Digest, error) {
	hexed, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		return Digest{}, errors.New(`cannot parse digest: want "sha256:" and 64 hexadecimal digits`)
	}
	return ParseHex(hexed)
}

// ParseHex reads the 64 hexadecimal digits alone, as they stand in paths.
func ParseHex(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) || strings.ToLower(s) != s {
		return Digest{}, errors.New("cannot parse digest: want 64 lower-case hexadecimal digits")
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, errors.New("cannot parse digest: want 64 lower-case hexadecimal digits")
	}
	return d, nil
}

// Hex returns the 64 hexadecimal digits alone.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// Short returns the first twelve hexadecimal digits, for people.
func (d Digest) Short() string { return d.Hex()[:12] }

// IsZero reports whether d is "none".
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the text form.
func (d Digest) String() string { return digestPrefix + d.Hex() }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(b []byte) error {
	parsed, err := ParseDigest(string(b))
	if err == nil {
		*d = parsed
	}
	return err
}

// Object names content that is fetched by digest: what it hashes to and how
// many bytes it has, so that nobody can be made to read more.
type Object struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
}

// ObjectOf returns the digest and size of b.
func ObjectOf(b []byte) Object { return Object{Digest: DigestOf(b), Size: int64(len(b))} }
