package author

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
)

// Repository writes the metadata of a repository's static tree. It keeps
// nothing in memory between two operations, so several processes may share a
// tree, but one at a time: the caller holds a lock around every method that
// changes something (all but Root, Delegations, Published, VerifyRole and
// Warnings).
//
// Every change follows docs/ordering.md, P1 to P4: readers see the state
// before or the state after, and a change that was interrupted is simply made
// again.
type Repository struct {
	tree   string
	online string
	disk   durable.Disk
	now    func() time.Time
	first  repo.Digest
	keys   keyring // online
}

// OpenRepository opens the repository in tree with its online keys. A nil
// now means time.Now.
func OpenRepository(tree, onlineDir string, disk durable.Disk, now func() time.Time) (*Repository, error) {
	if now == nil {
		now = time.Now
	}
	r := &Repository{tree: tree, online: onlineDir, disk: disk, now: now}
	err := r.open()
	if err != nil {
		return nil, fmt.Errorf("cannot open repository %s: %w", tree, err)
	}
	return r, nil
}

func (r *Repository) open() error {
	b, err := r.read(repo.MetadataPath(metadata.ROOT, 1), repo.MaxRoot)
	if err != nil {
		return err
	}
	r.first = repo.DigestOf(b)
	if r.keys, err = loadKeys(r.online); err != nil {
		return err
	}
	state, err := r.load()
	if err != nil {
		return err
	}
	for _, name := range []string{metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if err := state.canSign(name); err != nil {
			return err
		}
	}
	return nil
}

// Root returns the digest of the first root: the repository's identity.
func (r *Repository) Root() repo.Digest { return r.first }

func (r *Repository) path(p string) string { return filepath.Join(r.tree, filepath.FromSlash(p)) }

func (r *Repository) read(p string, max int64) ([]byte, error) {
	return signing.Dir(r.tree).Fetch(context.Background(), p, max)
}

func (r *Repository) write(p string, b []byte) error {
	return r.disk.WriteFile(r.path(p), b, 0o644)
}

// state is what the timestamp names, and the newest root. Changes are made
// to it and then committed.
type state struct {
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
	ring      keyring
}

// load reads the state from disk.
func (r *Repository) load() (s *state, err error) {
	defer recoverTo(&err)
	s = &state{ring: keyring{}}
	for _, k := range r.keys {
		s.ring.add(k)
	}
	if s.root, _, err = r.newestRoot(); err != nil {
		return nil, err
	}
	if s.timestamp, err = load[metadata.TimestampType](r, repo.TimestampPath, repo.MaxTimestamp); err != nil {
		return nil, err
	}
	path := repo.MetadataPath(metadata.SNAPSHOT, s.timestamp.Signed.Meta["snapshot.json"].Version)
	if s.snapshot, err = load[metadata.SnapshotType](r, path, repo.MaxSnapshot); err != nil {
		return nil, err
	}
	path = repo.MetadataPath(metadata.TARGETS, s.snapshot.Signed.Meta["targets.json"].Version)
	if s.targets, err = load[metadata.TargetsType](r, path, repo.MaxTargets); err != nil {
		return nil, err
	}
	if s.targets.Signed.Delegations == nil {
		s.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	return s, nil
}

// recoverTo turns a panic of go-tuf over a damaged file into an error.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("cannot read metadata: malformed: %v", p)
	}
}

func load[T metadata.Roles](r *Repository, path string, max int64) (*metadata.Metadata[T], error) {
	b, err := r.read(path, max)
	if err != nil {
		return nil, err
	}
	meta, err := (&metadata.Metadata[T]{}).FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return meta, nil
}

// newestRoot finds the end of the chain of roots.
func (r *Repository) newestRoot() (root *metadata.Metadata[metadata.RootType], version int64, err error) {
	for version = 1; ; version++ {
		_, err := os.Lstat(r.path(repo.MetadataPath(metadata.ROOT, version)))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
	}
	version--
	root, err = load[metadata.RootType](r, repo.MetadataPath(metadata.ROOT, max(version, 1)), repo.MaxRoot)
	return root, version, err
}

// signers returns the keys at hand of one of the root's roles.
func (s *state) signers(role string) []key { return s.ring.signers(s.root.Signed.Roles[role].KeyIDs) }

// canSign checks that enough keys of a role are at hand.
func (s *state) canSign(role string) error {
	have, want := len(s.signers(role)), s.root.Signed.Roles[role].Threshold
	if have < want {
		return fmt.Errorf("%d of %d %s keys are at hand", have, want, role)
	}
	return nil
}

// commitTargets writes the next version of the targets role, then snapshot
// and timestamp (P2, P3).
func (r *Repository) commitTargets(s *state) error {
	if err := s.canSign(metadata.TARGETS); err != nil {
		return err
	}
	s.targets.Signed.Version++
	s.targets.Signed.Expires = expiry(r.now().Add(TargetsLifetime))
	b, err := sign(s.targets, s.signers(metadata.TARGETS))
	if err != nil {
		return err
	}
	return r.commitRole(s, metadata.TARGETS, s.targets.Signed.Version, b)
}

// commitRole writes a role file that was signed, then snapshot and timestamp.
func (r *Repository) commitRole(s *state, role string, version int64, b []byte) error {
	if err := r.write(repo.MetadataPath(role, version), b); err != nil {
		return err
	}
	s.snapshot.Signed.Meta[role+".json"] = metaFile(version, b)
	return r.commitSnapshot(s)
}

// commitSnapshot writes the next snapshot, then the timestamp.
func (r *Repository) commitSnapshot(s *state) error {
	if err := s.canSign(metadata.SNAPSHOT); err != nil {
		return err
	}
	s.snapshot.Signed.Version++
	s.snapshot.Signed.Expires = expiry(r.now().Add(SnapshotLifetime))
	b, err := sign(s.snapshot, s.signers(metadata.SNAPSHOT))
	if err != nil {
		return err
	}
	if err := r.write(repo.MetadataPath(metadata.SNAPSHOT, s.snapshot.Signed.Version), b); err != nil {
		return err
	}
	s.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(s.snapshot.Signed.Version, b)}
	return r.commitTimestamp(s)
}

// commitTimestamp replaces the one file that changes: the moment at which
// readers see the new state.
func (r *Repository) commitTimestamp(s *state) error {
	if err := s.canSign(metadata.TIMESTAMP); err != nil {
		return err
	}
	s.timestamp.Signed.Version++
	s.timestamp.Signed.Expires = expiry(r.now().Add(TimestampLifetime))
	b, err := sign(s.timestamp, s.signers(metadata.TIMESTAMP))
	if err != nil {
		return err
	}
	return r.write(repo.TimestampPath, b)
}

func metaFile(version int64, b []byte) *metadata.MetaFiles {
	digest := repo.DigestOf(b)
	return &metadata.MetaFiles{
		Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": digest[:]},
	}
}
