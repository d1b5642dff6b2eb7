package signing_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

// thief holds private keys that it should not, and a copy of the repository
// in which it may write what it likes.
type thief struct {
	t     testing.TB
	files files
	keys  map[string]signature.Signer
}

// steal takes the keys in the directories.
func steal(w *world, dirs ...string) *thief {
	w.t.Helper()
	th := &thief{t: w.t, files: copyTree(w.t, w.tree), keys: map[string]signature.Signer{}}
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*.pem"))
		check(w.t, err)
		for _, path := range paths {
			th.take(path)
		}
	}
	return th
}

// take takes one key file.
func (th *thief) take(path string) {
	th.t.Helper()
	b, err := os.ReadFile(path)
	check(th.t, err)
	block, _ := pem.Decode(b)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	check(th.t, err)
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	check(th.t, err)
	public, err := signer.PublicKey()
	check(th.t, err)
	key, err := metadata.KeyFromPublicKey(public)
	check(th.t, err)
	id, err := key.ID()
	check(th.t, err)
	th.keys[id] = signer
}

func parse[T metadata.Roles](th *thief, path string) *metadata.Metadata[T] {
	th.t.Helper()
	m, err := (&metadata.Metadata[T]{}).FromBytes(th.files[path])
	check(th.t, err)
	return m
}

// put signs m with every stolen key among ids and puts it into the copy.
func put[T metadata.Roles](th *thief, path string, m *metadata.Metadata[T], ids []string) *metadata.MetaFiles {
	th.t.Helper()
	m.ClearSignatures()
	for _, id := range ids {
		if signer, ok := th.keys[id]; ok {
			_, err := m.Sign(signer)
			check(th.t, err)
		}
	}
	b, err := m.ToBytes(false)
	check(th.t, err)
	th.files[path] = b
	sum := sha256.Sum256(b)
	return &metadata.MetaFiles{Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// forge signs new targets, snapshot and timestamp after the edits. Either
// may be nil. What the thief lacks keys for goes unsigned.
func (th *thief) forge(editTargets func(*metadata.TargetsType), editSnapshot func(*metadata.SnapshotType)) {
	th.t.Helper()
	root := parse[metadata.RootType](th, th.newestRoot())
	timestamp := parse[metadata.TimestampType](th, repo.TimestampPath)
	snapshot := parse[metadata.SnapshotType](th, repo.MetadataPath("snapshot", timestamp.Signed.Meta["snapshot.json"].Version))
	ids := func(role string) []string { return root.Signed.Roles[role].KeyIDs }
	if editTargets != nil {
		targets := parse[metadata.TargetsType](th, repo.MetadataPath("targets", snapshot.Signed.Meta["targets.json"].Version))
		targets.Signed.Version++
		editTargets(&targets.Signed)
		file := put(th, repo.MetadataPath("targets", targets.Signed.Version), targets, ids("targets"))
		file.Version = targets.Signed.Version
		snapshot.Signed.Meta["targets.json"] = file
	}
	snapshot.Signed.Version++
	if editSnapshot != nil {
		editSnapshot(&snapshot.Signed)
	}
	file := put(th, repo.MetadataPath("snapshot", snapshot.Signed.Version), snapshot, ids("snapshot"))
	file.Version = snapshot.Signed.Version
	timestamp.Signed.Version++
	timestamp.Signed.Meta["snapshot.json"] = file
	put(th, repo.TimestampPath, timestamp, ids("timestamp"))
}

func (th *thief) newestRoot() string {
	for v := int64(2); ; v++ {
		if th.files[repo.MetadataPath("root", v)] == nil {
			return repo.MetadataPath("root", v-1)
		}
	}
}

// place puts a role file into the copy, truly signed by whomever, and makes
// the snapshot name it as that version.
func (th *thief) place(role repo.Role, version int64, b []byte, editTargets func(*metadata.TargetsType)) {
	th.t.Helper()
	th.files[repo.MetadataPath(string(role), version)] = b
	sum := sha256.Sum256(b)
	th.forge(editTargets, func(s *metadata.SnapshotType) {
		s.Meta[string(role)+".json"] = &metadata.MetaFiles{
			Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": sum[:]},
		}
	})
}

// delegateTo makes an edit that delegates role to mallory's daily keys but
// leaves all else.
func delegateTo(role repo.Role, mallory *author.Identity, all bool) func(*metadata.TargetsType) {
	return func(targets *metadata.TargetsType) {
		doc := mallory.Newest()
		for i := range targets.Delegations.Roles {
			d := &targets.Delegations.Roles[i]
			if d.Name != string(role) {
				continue
			}
			d.KeyIDs, d.Threshold = doc.Daily.IDs, doc.Daily.Threshold
			for _, id := range doc.Daily.IDs {
				targets.Delegations.Keys[id] = &metadata.Key{
					Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: doc.Public[id]},
				}
			}
			if all {
				d.UnrecognizedFields = map[string]any{signing.Extension: signing.DelegationFields{
					Digest: doc.Digest, Format: signing.ExtensionFormat, Pin: mallory.Pin().Digest, Version: doc.Version,
				}}
			}
		}
	}
}

// mallory makes an identity of the same name with other keys.
func mallory(w *world, role repo.Role) *author.Identity {
	w.t.Helper()
	id, err := author.CreateIdentity(durable.Disk{}, filepath.Join(w.dir, "mallory"), role, w.now())
	check(w.t, err)
	return id
}
