package author

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/repo/durable"
)

// InitOptions say where a new repository is and which keys it gets.
type InitOptions struct {
	Tree       string // the static tree
	OfflineDir string // root and targets keys: to be taken off the machine afterwards
	OnlineDir  string // snapshot and timestamp keys: what a running repository needs
	Disk       durable.Disk
	Now        func() time.Time // nil: time.Now

	// Zero means the default: 3 root keys of which 2 must sign, so that one
	// may be lost and one stolen; 1 targets key.
	RootKeys, RootThreshold       int
	TargetsKeys, TargetsThreshold int

	Random io.Reader // nil: the system's randomness
}

func (o InitOptions) withDefaults() InitOptions {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RootKeys == 0 {
		o.RootKeys, o.RootThreshold = 3, 2
	}
	o.RootThreshold = max(o.RootThreshold, 1)
	o.TargetsKeys = max(o.TargetsKeys, 1)
	o.TargetsThreshold = max(o.TargetsThreshold, 1)
	return o
}

// InitRepository makes the keys of a repository and its first metadata, and
// returns the digest of the first root: the repository's identity, which
// everybody who follows it pins. It fails with fs.ErrExist if the tree holds
// a repository; what an interrupted run left is replaced.
func InitRepository(o InitOptions) (repo.Digest, error) {
	o = o.withDefaults()
	r := &Repository{tree: o.Tree, online: o.OnlineDir, disk: o.Disk, now: o.Now}
	if _, err := os.Lstat(r.path(repo.TimestampPath)); err == nil {
		return repo.Digest{}, fmt.Errorf("cannot create repository in %s: %w", o.Tree, fs.ErrExist)
	}
	digest, err := r.init(o)
	if err != nil {
		return repo.Digest{}, fmt.Errorf("cannot create repository in %s: %w", o.Tree, err)
	}
	return digest, nil
}

func (r *Repository) init(o InitOptions) (repo.Digest, error) {
	if filepath.Clean(o.OfflineDir) == filepath.Clean(o.OnlineDir) {
		return repo.Digest{}, errors.New("offline and online keys must be kept apart")
	}
	for dir, perm := range map[string]fs.FileMode{
		o.OfflineDir: 0o700, o.OnlineDir: 0o700, r.path("metadata"): 0o755, r.path("keys"): 0o755,
	} {
		if err := o.Disk.MkdirAll(dir, perm); err != nil {
			return repo.Digest{}, err
		}
	}
	roles := []struct {
		name, dir    string
		n, threshold int
	}{
		{metadata.ROOT, o.OfflineDir, o.RootKeys, o.RootThreshold},
		{metadata.TARGETS, o.OfflineDir, o.TargetsKeys, o.TargetsThreshold},
		{metadata.SNAPSHOT, o.OnlineDir, 1, 1},
		{metadata.TIMESTAMP, o.OnlineDir, 1, 1},
	}
	root := metadata.Root(expiry(o.Now().Add(RootLifetime)))
	keys := map[string][]key{}
	for _, role := range roles {
		if role.threshold > role.n {
			return repo.Digest{}, fmt.Errorf("a threshold of %d among %d %s keys", role.threshold, role.n, role.name)
		}
		made, err := newKeys(o.Disk, role.dir, role.name, role.n, o.Random)
		if err != nil {
			return repo.Digest{}, err
		}
		if err := setKeys(root, role.name, made, role.threshold); err != nil {
			return repo.Digest{}, err
		}
		keys[role.name] = made
	}
	return r.writeFirst(root, keys)
}

// setKeys makes keys the only ones of one of the root's roles.
func setKeys(root *metadata.Metadata[metadata.RootType], role string, keys []key, threshold int) error {
	for _, old := range append([]string(nil), root.Signed.Roles[role].KeyIDs...) {
		if err := root.Signed.RevokeKey(old, role); err != nil {
			return fmt.Errorf("cannot replace %s keys: %w", role, err)
		}
	}
	for _, k := range keys {
		if err := root.Signed.AddKey(k.public, role); err != nil {
			return fmt.Errorf("cannot add %s key: %w", role, err)
		}
	}
	root.Signed.Roles[role].Threshold = threshold
	return nil
}

// writeFirst writes version 1 of everything, the timestamp last.
func (r *Repository) writeFirst(root *metadata.Metadata[metadata.RootType], keys map[string][]key) (repo.Digest, error) {
	b, err := sign(root, keys[metadata.ROOT])
	if err != nil {
		return repo.Digest{}, err
	}
	if err := r.write(repo.MetadataPath(metadata.ROOT, 1), b); err != nil {
		return repo.Digest{}, err
	}
	ring := keyring{}
	for _, name := range []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		ring.add(keys[name]...)
	}
	state := &state{
		root:     root,
		targets:  metadata.Targets(), // version 0 of nothing, replaced by commit
		snapshot: metadata.Snapshot(), timestamp: metadata.Timestamp(), ring: ring,
	}
	state.targets.Signed.Version, state.snapshot.Signed.Version, state.timestamp.Signed.Version = 0, 0, 0
	state.snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	state.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	return repo.DigestOf(b), r.commitTargets(state)
}
