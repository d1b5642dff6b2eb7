package rpmfile

import (
	"crypto/md5"  // what old packages carry; our own digests are SHA-256
	"crypto/sha1" // likewise
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/hex"
	"hash"
)

// algorithm is a digest algorithm under OpenPGP's number (RFC 9580, 9.5).
type algorithm int64

const (
	algoMD5    algorithm = 1
	algoSHA1   algorithm = 2
	algoSHA256 algorithm = 8
)

// new returns a hash, or an error for an algorithm that rpm does not write.
func (a algorithm) new() (hash.Hash, error) {
	switch a {
	case algoMD5:
		return md5.New(), nil
	case algoSHA1:
		return sha1.New(), nil
	case algoSHA256:
		return sha256.New(), nil
	case 9:
		return sha512.New384(), nil
	case 10:
		return sha512.New(), nil
	case 11:
		return sha256.New224(), nil
	case 12:
		return sha3.New256(), nil
	case 14:
		return sha3.New512(), nil
	}
	return nil, unsupported("digest algorithm %d is unknown", a)
}

// parseDigest reads a digest's hexadecimal form. A missing one is nil.
func (a algorithm) parseDigest(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	h, err := a.new()
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != h.Size() {
		return nil, malformed("%q is no digest of algorithm %d", s, a)
	}
	return b, nil
}
