package signing

import (
	"bytes"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/signing/trust"
)

// MaxKeyDocuments is how many versions a chain of key documents, or of
// roots, may have.
const MaxKeyDocuments = 1024

// The names of the two sets of keys in a key document, as TUF's root form
// calls them.
const (
	MasterKeys = metadata.ROOT    // sign the next key document; kept offline
	DailyKeys  = metadata.TARGETS // sign the role
)

// Pin names an identity for ever.
type Pin = trust.Pin

// Keys are a set of keys of which Threshold must sign.
type Keys struct {
	IDs       []string // TUF key IDs, sorted, each once
	Threshold int
}

// Equal reports whether both demand the same.
func (k Keys) Equal(o Keys) bool {
	return k.Threshold == o.Threshold && slices.Equal(k.IDs, o.IDs)
}

// KeyDocument is one version of the keys of a publisher's or owner's role.
type KeyDocument struct {
	Role    repo.Role
	Version int64
	Expires time.Time
	Reset   int64 // see KeyFields
	Master  Keys
	Daily   Keys
	Digest  repo.Digest       // of the whole file
	Public  map[string]string // hexadecimal ed25519 public keys by key ID

	meta *metadata.Metadata[metadata.RootType]
}

// ParseKeyDocument reads a key document and checks its form and that its own
// master keys have signed it. By itself that proves nothing: see
// [VerifyDocuments].
func ParseKeyDocument(b []byte) (*KeyDocument, error) {
	doc, err := readKeyDocument(b)
	if err != nil {
		return nil, err
	}
	if err := guard(func() error { return doc.meta.VerifyDelegate(MasterKeys, doc.meta) }); err != nil {
		return nil, err
	}
	return doc, nil
}

// readKeyDocument checks the form only.
func readKeyDocument(b []byte) (*KeyDocument, error) {
	var doc *KeyDocument
	err := guard(func() error {
		if len(b) > repo.MaxKeyDocument {
			return untrusted("key document has over %d bytes", repo.MaxKeyDocument)
		}
		meta, err := (&metadata.Metadata[metadata.RootType]{}).FromBytes(b)
		if err != nil {
			return err
		}
		doc, err = newKeyDocument(meta, b)
		return err
	})
	return doc, err
}

// VerifyDocuments follows a chain of key documents from version 1 and returns
// the newest. The pin is the caller's to check: it is the digest of the
// first.
func VerifyDocuments(docs [][]byte) (*KeyDocument, error) {
	all, err := verifyChain(docs)
	if err != nil {
		return nil, err
	}
	return all[len(all)-1], nil
}

// verifyChain returns every version of a chain whose N+1 is signed by the
// master keys of both N and N+1.
func verifyChain(docs [][]byte) ([]*KeyDocument, error) {
	if len(docs) == 0 || len(docs) > MaxKeyDocuments {
		return nil, untrusted("%d key documents, want 1 to %d", len(docs), MaxKeyDocuments)
	}
	first, err := ParseKeyDocument(docs[0])
	if err != nil {
		return nil, err
	}
	if first.Version != 1 {
		return nil, untrusted("the first key document of %s has version %d", first.Role, first.Version)
	}
	all := []*KeyDocument{first}
	for _, b := range docs[1:] {
		next, err := all[len(all)-1].next(b)
		if err != nil {
			return nil, err
		}
		all = append(all, next)
	}
	return all, nil
}

// readChain returns every version of a chain that this client has verified
// before, as the recorded digests of its first and last document prove. What
// is between them decides nothing.
func readChain(docs [][]byte) ([]*KeyDocument, error) {
	all := make([]*KeyDocument, len(docs))
	for i, b := range docs {
		var err error
		if all[i], err = readKeyDocument(b); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// next checks that b is the version after d.
func (d *KeyDocument) next(b []byte) (*KeyDocument, error) {
	next, err := ParseKeyDocument(b)
	if err != nil {
		return nil, err
	}
	if err := guard(func() error { return d.meta.VerifyDelegate(MasterKeys, next.meta) }); err != nil {
		return nil, err
	}
	switch {
	case next.Version != d.Version+1:
		return nil, untrusted("key document of %s: version %d after %d", d.Role, next.Version, d.Version)
	case next.Role != d.Role:
		return nil, untrusted("key document of %s after that of %s", next.Role, d.Role)
	case next.Reset < d.Reset:
		return nil, untrusted("key document %d of %s lowers its reset counter", next.Version, d.Role)
	}
	return next, nil
}

// VerifyRole checks that the daily keys have signed that role, and returns
// what it says. Expiry is the caller's to judge.
func (d *KeyDocument) VerifyRole(b []byte) (*SignedRole, error) {
	role, err := ParseRole(b)
	if err == nil {
		err = d.verifyRole(role)
	}
	if err != nil {
		return nil, err
	}
	return role, nil
}

func (d *KeyDocument) verifyRole(role *SignedRole) error {
	if role.Role != d.Role {
		return untrusted("a role of %s under the keys of %s", role.Role, d.Role)
	}
	return guard(func() error { return d.meta.VerifyDelegate(DailyKeys, role.meta) })
}

func newKeyDocument(meta *metadata.Metadata[metadata.RootType], b []byte) (*KeyDocument, error) {
	again, err := meta.ToBytes(false)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, untrusted("key document is not in canonical form")
	}
	var fields KeyFields
	if err := extension(meta.Signed.UnrecognizedFields, true, &fields); err != nil {
		return nil, err
	}
	if err := checkFormat(fields.Format); err != nil {
		return nil, err
	}
	if _, err := repo.ParseRole(string(fields.Role)); err != nil {
		return nil, err
	}
	doc := &KeyDocument{
		Role: fields.Role, Version: meta.Signed.Version, Expires: meta.Signed.Expires, Reset: fields.Reset,
		Digest: repo.DigestOf(b), Public: map[string]string{}, meta: meta,
	}
	if doc.Version < 1 || doc.Reset < 0 {
		return nil, untrusted("key document of %s: version or reset counter out of range", doc.Role)
	}
	return doc, doc.readKeys()
}

func (d *KeyDocument) readKeys() error {
	signed := &d.meta.Signed
	if len(signed.Roles) != 2 || signed.Roles[MasterKeys] == nil || signed.Roles[DailyKeys] == nil {
		return untrusted("key document of %s: want the roles %s and %s", d.Role, MasterKeys, DailyKeys)
	}
	var err error
	master, daily := signed.Roles[MasterKeys], signed.Roles[DailyKeys]
	if d.Master, err = readKeys(signed.Keys, master.KeyIDs, master.Threshold); err != nil {
		return err
	}
	if d.Daily, err = readKeys(signed.Keys, daily.KeyIDs, daily.Threshold); err != nil {
		return err
	}
	for _, id := range d.Daily.IDs {
		if slices.Contains(d.Master.IDs, id) {
			return untrusted("key document of %s: key %s is both a master and a daily key", d.Role, id)
		}
	}
	for id, key := range signed.Keys {
		d.Public[id] = key.Value.PublicKey
	}
	return nil
}

// readKeys checks a set of keys: ed25519 only, named by their true IDs, and
// enough of them.
func readKeys(keys map[string]*metadata.Key, ids []string, threshold int) (Keys, error) {
	set := Keys{IDs: slices.Clone(ids), Threshold: threshold}
	slices.Sort(set.IDs)
	if len(slices.Compact(slices.Clone(set.IDs))) != len(ids) || threshold < 1 || threshold > len(ids) {
		return Keys{}, untrusted("a threshold of %d among %d keys, or a key twice", threshold, len(ids))
	}
	for _, id := range set.IDs {
		key := keys[id]
		if key == nil || key.Type != metadata.KeyTypeEd25519 || key.Scheme != metadata.KeySchemeEd25519 {
			return Keys{}, untrusted("key %s is not an ed25519 key", id)
		}
		if len(key.UnrecognizedFields) != 0 || len(key.Value.UnrecognizedFields) != 0 || len(key.Value.PublicKey) != 64 {
			return Keys{}, untrusted("key %s is malformed", id)
		}
		if got, err := key.ID(); err != nil || got != id {
			return Keys{}, untrusted("key %s has another ID", id)
		}
	}
	return set, nil
}
