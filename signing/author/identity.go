package author

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
)

// Identity is a publisher's or an owner's role with those of its private keys
// that are at hand. Its directory holds the key documents as <version>.json,
// and the keys; master keys may be kept elsewhere between changes.
type Identity struct {
	role   repo.Role
	dir    string
	docs   [][]byte
	newest *signing.KeyDocument
	keys   keyring
}

// KeySpec says which keys a new identity gets. Zero fields mean one key and a
// threshold of one.
type KeySpec struct {
	MasterKeys, MasterThreshold int
	DailyKeys, DailyThreshold   int
	Random                      io.Reader // nil: the system's randomness
}

func (s KeySpec) withDefaults() KeySpec {
	for _, n := range []*int{&s.MasterKeys, &s.MasterThreshold, &s.DailyKeys, &s.DailyThreshold} {
		*n = max(*n, 1)
	}
	return s
}

// CreateIdentity makes the keys of a role and version 1 of its key document
// in dir/<role>: one master and one daily key. It fails with fs.ErrExist if
// the identity is there.
func CreateIdentity(disk durable.Disk, dir string, role repo.Role, now time.Time) (*Identity, error) {
	return CreateIdentityWith(disk, dir, role, now, KeySpec{})
}

// CreateIdentityWith is CreateIdentity with other numbers of keys.
func CreateIdentityWith(disk durable.Disk, dir string, role repo.Role, now time.Time, spec KeySpec) (*Identity, error) {
	if _, err := repo.ParseRole(string(role)); err != nil {
		return nil, err
	}
	home := filepath.Join(dir, string(role))
	if _, err := os.Lstat(home); err == nil {
		return nil, fmt.Errorf("cannot create identity %s: %w", home, fs.ErrExist)
	}
	if err := createIdentity(disk, home, role, now, spec.withDefaults()); err != nil {
		return nil, fmt.Errorf("cannot create identity %s: %w", role, err)
	}
	return OpenIdentity(dir, role)
}

// createIdentity builds the identity under a temporary name: it is there
// whole or not at all.
func createIdentity(disk durable.Disk, home string, role repo.Role, now time.Time, spec KeySpec) (err error) {
	temp := filepath.Join(filepath.Dir(home), durable.TempPrefix+string(role))
	if err := disk.RemoveAll(temp); err != nil {
		return err
	}
	if err := disk.MkdirAll(temp, 0o700); err != nil {
		return err
	}
	master, err := newKeys(disk, temp, "master", spec.MasterKeys, spec.Random)
	if err != nil {
		return err
	}
	daily, err := newKeys(disk, temp, "daily", spec.DailyKeys, spec.Random)
	if err != nil {
		return err
	}
	doc := document{
		role: role, version: 1, expires: now.Add(KeyDocumentLifetime),
		master: master, masterThreshold: spec.MasterThreshold, daily: daily, dailyThreshold: spec.DailyThreshold,
	}
	b, err := doc.sign(master)
	if err != nil {
		return err
	}
	if _, err := signing.ParseKeyDocument(b); err != nil {
		return err
	}
	if err := disk.WriteFile(documentPath(temp, 1), b, 0o644); err != nil {
		return err
	}
	if err := disk.Rename(temp, home); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(home))
}

func documentPath(home string, version int) string {
	return filepath.Join(home, strconv.Itoa(version)+".json")
}

// OpenIdentity reads an identity from dir/<role>. The error wraps
// fs.ErrNotExist if there is none.
func OpenIdentity(dir string, role repo.Role) (*Identity, error) {
	i := &Identity{role: role, dir: filepath.Join(dir, string(role))}
	for version := 1; ; version++ {
		b, err := os.ReadFile(documentPath(i.dir, version))
		if errors.Is(err, fs.ErrNotExist) && version > 1 {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open identity %s: %w", role, err)
		}
		i.docs = append(i.docs, b)
	}
	var err error
	if i.newest, err = signing.VerifyDocuments(i.docs); err != nil {
		return nil, fmt.Errorf("cannot open identity %s: %w", role, err)
	}
	if i.newest.Role != role {
		return nil, fmt.Errorf("cannot open identity %s: its key documents are those of %s", role, i.newest.Role)
	}
	if i.keys, err = loadKeys(i.dir); err != nil {
		return nil, fmt.Errorf("cannot open identity %s: %w", role, err)
	}
	return i, nil
}

// Role returns whose keys these are.
func (i *Identity) Role() repo.Role { return i.role }

// Pin returns what policies and guests name this identity by.
func (i *Identity) Pin() signing.Pin {
	return signing.Pin{Role: i.role, Digest: repo.DigestOf(i.docs[0])}
}

// Documents returns all key documents, from version 1.
func (i *Identity) Documents() [][]byte { return i.docs }

// Newest returns the newest key document.
func (i *Identity) Newest() *signing.KeyDocument { return i.newest }

// RoleSpec is what a role file shall say. Targets must be names that the role
// may sign; see signing.CheckTarget.
type RoleSpec struct {
	Version    int64
	Expires    time.Time
	Repository repo.Digest // the repository's first root
	Targets    map[string]repo.Object
}

// SignRole makes the next role file with the daily keys.
func (i *Identity) SignRole(spec RoleSpec) ([]byte, error) {
	meta := metadata.Targets(expiry(spec.Expires))
	meta.Signed.Version = spec.Version
	meta.Signed.UnrecognizedFields = map[string]any{signing.Extension: signing.RoleFields{
		Format: signing.ExtensionFormat, Repository: spec.Repository, Role: i.role,
	}}
	for name, object := range spec.Targets {
		meta.Signed.Targets[name] = &metadata.TargetFiles{
			Length: object.Size, Hashes: metadata.Hashes{"sha256": object.Digest[:]},
		}
	}
	keys := i.keys.signers(i.newest.Daily.IDs)
	if len(keys) < i.newest.Daily.Threshold {
		return nil, fmt.Errorf("cannot sign as %s: %d of %d daily keys are in %s", i.role, len(keys), i.newest.Daily.Threshold, i.dir)
	}
	b, err := sign(meta, keys)
	if err != nil {
		return nil, err
	}
	if _, err := i.newest.VerifyRole(b); err != nil {
		return nil, fmt.Errorf("cannot sign as %s: %w", i.role, err)
	}
	return b, nil
}

// expiry is t as TUF writes it.
func expiry(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
