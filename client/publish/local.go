package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/signing"
)

// localFormat is the version of pending.json.
const localFormat = 1

// maxPacks is how many packs are kept before they are written anew as one.
const maxPacks = 16

const (
	signedName  = "signed.json"
	pendingName = "pending.json"
	docsName    = "docs"
	lockName    = "lock"
)

// local is one role's folder, locked.
type local struct {
	dir  string
	disk durable.Disk
	role repo.Role
	lock *os.File

	docs    *packs
	signed  *signing.SignedRole // last accepted; nil: nothing yet
	pending *pending            // nil: none
}

// pending is a signed role that the repository has perhaps not accepted.
type pending struct {
	Files  []packageFile `json:"files"` // the packages that it adds
	Format int           `json:"format"`
	Role   []byte        `json:"role"` // the signed file

	parsed *signing.SignedRole
}

// packageFile is where the blob of a pending package lies.
type packageFile struct {
	Blob repo.Object `json:"blob"`
	Path string      `json:"path"`
}

// openLocal locks and reads a role's folder.
func openLocal(disk durable.Disk, dir string, role repo.Role) (*local, error) {
	if err := disk.MkdirAll(filepath.Join(dir, docsName), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &local{dir: dir, disk: disk, role: role, lock: lock}
	if err := l.read(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *local) read() error {
	if err := l.reopen(); err != nil {
		return err
	}
	if err := l.readSigned(); err != nil {
		return err
	}
	return l.readPending()
}

// lockDir keeps other processes out. The lock ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	if err := durable.TryLock(f); err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &api.Error{Code: api.Conflict, Message: "cannot publish: another publish is running",
				Hint: "Wait until it has ended."}
		}
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	return f, nil
}

func (l *local) close() {
	if l.lock != nil {
		l.lock.Close() // unlocks; nothing was written through it
		l.lock = nil
	}
}

func (l *local) path(name string) string { return filepath.Join(l.dir, name) }

func (l *local) pack(version int64) string {
	return filepath.Join(l.dir, docsName, strconv.FormatInt(version, 10)+packSuffix)
}

func (l *local) readSigned() error {
	b, err := os.ReadFile(l.path(signedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l.signed, err = l.parse(b)
	return err
}

// parse reads a role file of ours. That it is ours, the folder says.
func (l *local) parse(b []byte) (*signing.SignedRole, error) {
	r, err := signing.ParseRole(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read what was signed last: %w", err)
	}
	if r.Role != l.role {
		return nil, fmt.Errorf("cannot read what was signed last: it is %s's, not %s's", r.Role, l.role)
	}
	return r, nil
}

// readPending reads what is pending. What has been accepted already is
// pending no more: the crash came between A1's last two steps.
func (l *local) readPending() error {
	b, err := os.ReadFile(l.path(pendingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p := new(pending)
	if err := repo.DecodeStrict(b, p); err != nil {
		return fmt.Errorf("cannot read %s: %w", pendingName, err)
	}
	if p.parsed, err = l.parse(p.Role); err != nil {
		return err
	}
	if p.Format != localFormat {
		return fmt.Errorf("cannot read %s: unknown format %d", pendingName, p.Format)
	}
	if l.signed != nil && l.signed.Version >= p.parsed.Version {
		return nil
	}
	l.pending = p
	return nil
}

// version is that of what was accepted last, 0 for nothing.
func (l *local) version() int64 {
	if l.signed == nil {
		return 0
	}
	return l.signed.Version
}

// savePending makes a signed role and the documents that it adds durable, in
// this order (docs/ordering.md, A1).
func (l *local) savePending(p *pending, docs index.Documents) error {
	path := l.pack(p.parsed.Version)
	objects := make([]repo.Object, 0, len(docs))
	for digest, b := range docs {
		objects = append(objects, repo.Object{Digest: digest, Size: int64(len(b))})
	}
	if err := l.writePack(path, objects, func(o repo.Object) ([]byte, error) { return docs[o.Digest], nil }); err != nil {
		return err
	}
	b, err := repo.EncodeCanonical(p)
	if err != nil {
		return err
	}
	if err := l.disk.WriteFile(l.path(pendingName), b, 0o600); err != nil {
		return err
	}
	l.pending = p
	return nil
}

// writePack makes a pack durable and readable. One that a crash left is
// replaced: nothing durable names it.
func (l *local) writePack(path string, objects []repo.Object, fetch func(repo.Object) ([]byte, error)) error {
	if err := l.disk.Remove(path); err != nil {
		return err
	}
	if _, err := l.disk.WriteFrom(path, packReader(objects, fetch), 0o600); err != nil {
		return err
	}
	if err := errors.Join(l.disk.SyncFile(path), l.disk.SyncDir(filepath.Dir(path))); err != nil {
		return err
	}
	return l.reopen()
}

func (l *local) reopen() (err error) {
	l.docs, err = openPacks(filepath.Join(l.dir, docsName))
	return err
}

// pendingDocs names the documents that the pending role adds.
func (l *local) pendingDocs() []repo.Object {
	var objects []repo.Object
	path := l.pack(l.pending.parsed.Version)
	for o, at := range l.docs.places {
		if at.path == path {
			objects = append(objects, o)
		}
	}
	return objects
}

// accepted makes a role file the last-signed one. What was pending is not any
// more.
func (l *local) accepted(ctx context.Context, role []byte) error {
	parsed, err := l.parse(role)
	if err != nil {
		return err
	}
	if err := l.disk.WriteFile(l.path(signedName), role, 0o600); err != nil {
		return err
	}
	l.signed, l.pending = parsed, nil
	if err := l.dropPending(); err != nil {
		return err
	}
	if len(l.docs.files) > maxPacks {
		return l.compact(ctx)
	}
	return nil
}

func (l *local) dropPending() error {
	if err := l.disk.Remove(l.path(pendingName)); err != nil {
		return err
	}
	return l.disk.SyncDir(l.dir)
}

// compact writes what the last-signed role names as one pack, and then
// removes the others.
func (l *local) compact(ctx context.Context) error {
	objects, err := documentsOf(ctx, l.signed, l.docs)
	if err != nil {
		return err
	}
	old := l.docs.files
	whole := filepath.Join(l.dir, docsName, "all-"+strconv.FormatInt(l.signed.Version, 10)+packSuffix)
	fetch := func(o repo.Object) ([]byte, error) { return l.docs.Document(ctx, o) }
	if err := l.writePack(whole, objects, fetch); err != nil {
		return err
	}
	for _, path := range old {
		if path == whole {
			continue
		}
		if err := l.disk.Remove(path); err != nil {
			return err
		}
	}
	if err := l.disk.SyncDir(filepath.Join(l.dir, docsName)); err != nil {
		return err
	}
	return l.reopen()
}

// documentsOf names every document that a role leads to: an index with its
// tables and shards, and all other targets themselves.
func documentsOf(ctx context.Context, role *signing.SignedRole, source index.Source) ([]repo.Object, error) {
	var objects []repo.Object
	for name, object := range role.Targets {
		objects = append(objects, object)
		if name != signing.IndexTarget(role.Role.Publisher()) || role.Role.IsOwner() {
			continue
		}
		tree, err := index.Open(ctx, source, object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, treeDocuments(tree)...)
	}
	return objects, nil
}

// treeDocuments names root, tables and shards.
func treeDocuments(tree *index.Tree) []repo.Object {
	objects := append([]repo.Object{tree.Object}, tree.Root.Tables...)
	return append(objects, tree.Shards()...)
}
