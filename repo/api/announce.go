package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"stork/repo"
)

// AnnounceRoute is where nests announce to the tracker, as BEP 3 says.
const AnnounceRoute = "/announce/"

// AnnouncePath is where a nest announces that it has, or wants, the blob with
// that info dictionary.
func AnnouncePath(token AnnounceToken, info repo.Digest) string {
	return AnnounceRoute + string(token) + "/" + info.Hex()
}

// AnnounceToken shows the tracker of one repository, until it expires, that
// who announces is a nest which the operator has approved. Its bytes are the
// nest's public key, when it expires (seconds since the epoch, 8 bytes,
// big-endian), and the nest's ed25519 signature of
//
//	"stork announce 1\n" first-root-digest public-key expiry
//
// all in base64url (RFC 4648, section 5) without padding. The nest's key does
// not leave the nest for it.
type AnnounceToken string

// MaxAnnounceLife is how far ahead a token may expire: who steals one, of a
// repository that is reached without TLS, has that long.
const MaxAnnounceLife = 24 * time.Hour

const announceContext = "stork announce 1\n"

// tokenSize is that of a token's bytes.
const tokenSize = ed25519.PublicKeySize + 8 + ed25519.SignatureSize

// NewAnnounceToken makes a token for the repository with that first root.
func NewAnnounceToken(key ed25519.PrivateKey, root repo.Digest, expires time.Time) AnnounceToken {
	public, _ := key.Public().(ed25519.PublicKey) // always is
	b := append([]byte{}, public...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	b = append(b, ed25519.Sign(key, announced(root, b))...)
	return AnnounceToken(base64.RawURLEncoding.EncodeToString(b))
}

// announced is what is signed.
func announced(root repo.Digest, head []byte) []byte {
	return append(append([]byte(announceContext), root[:]...), head...)
}

var errToken = errors.New("it is no announce token")

// Key returns whose token it claims to be. That is true only if Verify says so.
func (t AnnounceToken) Key() ([ed25519.PublicKeySize]byte, error) {
	b, err := t.decode()
	if err != nil {
		return [ed25519.PublicKeySize]byte{}, err
	}
	return [ed25519.PublicKeySize]byte(b[:ed25519.PublicKeySize]), nil
}

func (t AnnounceToken) decode() ([]byte, error) {
	if len(t) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return nil, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(t))
	if err != nil {
		return nil, errToken
	}
	return b, nil
}

// Verify checks a token's signature and time.
func (t AnnounceToken) Verify(root repo.Digest, now time.Time) error {
	b, err := t.decode()
	if err != nil {
		return err
	}
	head, signature := b[:tokenSize-ed25519.SignatureSize], b[tokenSize-ed25519.SignatureSize:]
	left := int64(binary.BigEndian.Uint64(head[ed25519.PublicKeySize:])) - now.Unix()
	switch {
	case left <= 0:
		return errors.New("the announce token has expired")
	case left > int64(MaxAnnounceLife/time.Second):
		return fmt.Errorf("the announce token expires in more than %v", MaxAnnounceLife)
	case !ed25519.Verify(ed25519.PublicKey(head[:ed25519.PublicKeySize]), announced(root, head), signature):
		return errors.New("the announce token is not signed for this repository")
	}
	return nil
}
