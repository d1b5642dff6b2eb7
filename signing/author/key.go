package author

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo/durable"
)

// A private key is a file of its own, PKCS #8 in PEM as openssl writes it,
// named <use>-<first digits of the TUF key ID>.pem, readable by its owner
// only. Which of the keys in a directory count, the metadata says: a key that
// no document names is never used.
const (
	keyExt     = ".pem"
	pemType    = "PRIVATE KEY"
	maxKeyFile = 4 << 10
)

// key is one private key.
type key struct {
	id      string // TUF key ID
	public  *metadata.Key
	private ed25519.PrivateKey
}

// keyring holds private keys by TUF key ID.
type keyring map[string]key

// newKey makes a key from random, or from the system's randomness if that is
// nil.
func newKey(random io.Reader) (key, error) {
	if random == nil {
		random = rand.Reader
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return key{}, fmt.Errorf("cannot make key: %w", err)
	}
	return keyOf(ed25519.NewKeyFromSeed(seed))
}

func keyOf(private ed25519.PrivateKey) (key, error) {
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return key{}, fmt.Errorf("cannot make key: %w", err)
	}
	id, err := public.ID()
	if err != nil {
		return key{}, fmt.Errorf("cannot make key: %w", err)
	}
	return key{id: id, public: public, private: private}, nil
}

// newKeys makes n keys and writes each to dir.
func newKeys(disk durable.Disk, dir, use string, n int, random io.Reader) ([]key, error) {
	keys := make([]key, 0, n)
	for range n {
		k, err := newKey(random)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return nil, fmt.Errorf("cannot encode key: %w", err)
		}
		b := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
		if err := disk.WriteFile(filepath.Join(dir, use+"-"+k.id[:12]+keyExt), b, 0o600); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// decodeKey reads a private key file, which holds exactly one key.
func decodeKey(b []byte) (key, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemType || len(bytes.TrimSpace(rest)) != 0 || len(block.Headers) != 0 {
		return key{}, errors.New("want one PEM block of type " + pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key{}, err
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return key{}, errors.New("want an ed25519 key")
	}
	return keyOf(private)
}

// loadKeys reads every key file in the directories.
func loadKeys(dirs ...string) (keyring, error) {
	ring := keyring{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("cannot read keys: %w", err)
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), keyExt) || strings.HasPrefix(entry.Name(), durable.TempPrefix) {
				continue
			}
			k, err := loadKey(filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			ring[k.id] = k
		}
	}
	return ring, nil
}

func loadKey(path string) (key, error) {
	f, err := os.Open(path)
	if err != nil {
		return key{}, fmt.Errorf("cannot read key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return key{}, fmt.Errorf("cannot read key: %w", err)
	}
	k, err := decodeKey(b)
	if err != nil {
		return key{}, fmt.Errorf("cannot read key %s: %w", path, err)
	}
	return k, nil
}

func (r keyring) add(keys ...key) {
	for _, k := range keys {
		r[k.id] = k
	}
}

// signers returns the keys among ids that are here.
func (r keyring) signers(ids []string) []key {
	var keys []key
	for _, id := range ids {
		if k, ok := r[id]; ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// sign replaces meta's signatures by those of the keys and returns the file.
// Without indentation, and with go-tuf's sorted keys, the form is canonical.
func sign[T metadata.Roles](meta *metadata.Metadata[T], keys []key) ([]byte, error) {
	meta.ClearSignatures()
	signed := map[string]bool{}
	for _, k := range keys {
		if signed[k.id] {
			continue
		}
		signed[k.id] = true
		signer, err := signature.LoadED25519Signer(k.private)
		if err == nil {
			_, err = meta.Sign(signer)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot sign: %w", err)
		}
	}
	b, err := meta.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("cannot encode signed metadata: %w", err)
	}
	return b, nil
}
