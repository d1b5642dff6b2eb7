package author

import (
	"errors"
	"fmt"

	"stork/repo"
	"stork/signing"
)

// BundleFormat is the version of the bundle that this code writes and reads.
const BundleFormat = 1

// MaxBundle is the size in bytes beyond which a bundle is refused.
const MaxBundle = 16 << 20

// Bundle is what a publisher hands to a repository's operator: the key
// documents of its publisher's role, its owner's role, or both. It holds
// nothing secret, but must reach the operator unchanged: it is where the
// repository's trust in the publisher starts.
type Bundle struct {
	Documents map[repo.Role][][]byte `json:"documents"` // each from version 1; base64 in JSON
	Format    int                    `json:"format"`
}

// Publisher returns whose bundle it is; b was decoded or made by NewBundle.
func (b Bundle) Publisher() repo.Publisher {
	for role := range b.Documents {
		return role.Publisher()
	}
	return ""
}

// NewBundle collects the key documents of identities.
func NewBundle(identities ...*Identity) Bundle {
	b := Bundle{Documents: map[repo.Role][][]byte{}, Format: BundleFormat}
	for _, i := range identities {
		b.Documents[i.Role()] = i.Documents()
	}
	return b
}

// EncodeBundle returns the file with the identities' key documents.
func EncodeBundle(identities ...*Identity) ([]byte, error) {
	b := NewBundle(identities...)
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("cannot encode key bundle: %w", err)
	}
	return repo.EncodeCanonical(b)
}

// DecodeBundle reads such a file and verifies every chain in it.
func DecodeBundle(data []byte) (Bundle, error) {
	if len(data) > MaxBundle {
		return Bundle{}, fmt.Errorf("cannot decode key bundle: over %d bytes", MaxBundle)
	}
	var b Bundle
	err := repo.DecodeCanonical(data, &b)
	if err == nil {
		err = b.check()
	}
	if err != nil {
		return Bundle{}, fmt.Errorf("cannot decode key bundle: %w", err)
	}
	return b, nil
}

func (b Bundle) check() error {
	if b.Format != BundleFormat {
		return fmt.Errorf("unknown format %d: this program reads %d", b.Format, BundleFormat)
	}
	if len(b.Documents) == 0 {
		return errors.New("no key documents")
	}
	var whose repo.Publisher
	for role := range b.Documents {
		if _, err := repo.ParseRole(string(role)); err != nil {
			return err
		}
		if whose != "" && role.Publisher() != whose {
			return errors.New("key documents of more than one publisher")
		}
		whose = role.Publisher()
	}
	for role, docs := range b.Documents {
		newest, err := signing.VerifyDocuments(docs)
		if err != nil {
			return fmt.Errorf("key documents of %s: %w", role, err)
		}
		if newest.Role != role {
			return fmt.Errorf("key documents of %s are those of %s", role, newest.Role)
		}
	}
	return nil
}
