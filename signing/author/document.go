package author

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
)

// document is a key document to be signed. Of the keys only the public parts
// matter.
type document struct {
	role                            repo.Role
	version, reset                  int64
	expires                         time.Time
	master, daily                   []key
	masterThreshold, dailyThreshold int
}

func (d document) sign(by []key) ([]byte, error) {
	meta := metadata.Root(expiry(d.expires))
	meta.Signed.Version = d.version
	meta.Signed.Roles = map[string]*metadata.Role{
		signing.MasterKeys: {KeyIDs: []string{}, Threshold: d.masterThreshold},
		signing.DailyKeys:  {KeyIDs: []string{}, Threshold: d.dailyThreshold},
	}
	for name, keys := range map[string][]key{signing.MasterKeys: d.master, signing.DailyKeys: d.daily} {
		for _, k := range keys {
			if err := meta.Signed.AddKey(k.public, name); err != nil {
				return nil, fmt.Errorf("cannot make key document: %w", err)
			}
		}
	}
	meta.Signed.UnrecognizedFields = map[string]any{signing.Extension: signing.KeyFields{
		Format: signing.ExtensionFormat, Reset: d.reset, Role: d.role,
	}}
	return sign(meta, by)
}

// Revision says what the next key document changes. The zero Revision only
// renews the expiry.
type Revision struct {
	ReplaceDaily  bool    // new daily keys instead of the old: what the old have signed is refused from then on
	KeepDaily     bool    // with ReplaceDaily: new daily keys beside the old, until a later revision drops those
	ReplaceMaster bool    // new master keys; the old sign once more
	Reset         bool    // let clients accept role versions below those they have seen
	Keys          KeySpec // numbers and thresholds of new keys
}

// Revise makes the next key document, signed by the present master keys and
// by the new ones. New keys are durable before the document that names them.
func (i *Identity) Revise(disk durable.Disk, now time.Time, r Revision) error {
	if err := i.revise(disk, now, r); err != nil {
		return fmt.Errorf("cannot revise the keys of %s: %w", i.role, err)
	}
	return nil
}

func (i *Identity) revise(disk durable.Disk, now time.Time, r Revision) error {
	old := i.newest
	doc := document{
		role: i.role, version: old.Version + 1, reset: old.Reset, expires: now.Add(KeyDocumentLifetime),
		masterThreshold: old.Master.Threshold, dailyThreshold: old.Daily.Threshold,
	}
	if r.Reset {
		doc.reset++
	}
	var err error
	if doc.master, err = publicKeys(old, old.Master.IDs); err != nil {
		return err
	}
	if doc.daily, err = publicKeys(old, old.Daily.IDs); err != nil {
		return err
	}
	signers := i.keys.signers(old.Master.IDs)
	if len(signers) < old.Master.Threshold {
		return fmt.Errorf("%d of %d master keys are in %s", len(signers), old.Master.Threshold, i.dir)
	}
	spec := r.Keys.withDefaults()
	if r.ReplaceMaster {
		if doc.master, err = newKeys(disk, i.dir, "master", spec.MasterKeys, spec.Random); err != nil {
			return err
		}
		doc.masterThreshold = spec.MasterThreshold
		signers = append(signers, doc.master...)
	}
	if r.ReplaceDaily {
		daily, err := newKeys(disk, i.dir, "daily", spec.DailyKeys, spec.Random)
		if err != nil {
			return err
		}
		if r.KeepDaily {
			daily = append(doc.daily, daily...)
		}
		doc.daily, doc.dailyThreshold = daily, spec.DailyThreshold
	}
	return i.addDocument(disk, doc, signers)
}

func (i *Identity) addDocument(disk durable.Disk, doc document, signers []key) error {
	b, err := doc.sign(signers)
	if err != nil {
		return err
	}
	docs := append(i.docs[:len(i.docs):len(i.docs)], b)
	newest, err := signing.VerifyDocuments(docs)
	if err != nil {
		return err
	}
	if err := disk.WriteFile(documentPath(i.dir, len(docs)), b, 0o644); err != nil {
		return err
	}
	keys, err := loadKeys(i.dir)
	if err != nil {
		return err
	}
	i.docs, i.newest, i.keys = docs, newest, keys
	return nil
}

// publicKeys returns the public parts of keys that a document names.
func publicKeys(doc *signing.KeyDocument, ids []string) ([]key, error) {
	keys := make([]key, 0, len(ids))
	for _, id := range ids {
		b, err := hex.DecodeString(doc.Public[id])
		if err != nil {
			return nil, fmt.Errorf("cannot read public key %s: %w", id, err)
		}
		public, err := metadata.KeyFromPublicKey(ed25519.PublicKey(b))
		if err != nil {
			return nil, fmt.Errorf("cannot read public key %s: %w", id, err)
		}
		keys = append(keys, key{id: id, public: public})
	}
	return keys, nil
}
