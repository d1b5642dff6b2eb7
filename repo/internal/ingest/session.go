package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"stork/repo"
	"stork/repo/api"
	"stork/signing"
	"stork/signing/author"
)

// session is one upload. Its directory holds the objects that have arrived,
// named by the hexadecimal digits of their digests.
type session struct {
	id      string
	role    repo.Role
	signed  []byte
	version int64 // of the role
	dir     string
	fresh   bool // no earlier process can have left anything in dir

	committing sync.Mutex // held by the one commit at a time

	mu      sync.Mutex // guards what follows
	objects map[repo.Digest]*object
	users   int       // requests that are working on it
	used    time.Time // when the last of them came or went
}

func (s *session) digest() repo.Digest { return repo.DigestOf(s.signed) }

func (s *session) path(d repo.Digest) string { return filepath.Join(s.dir, d.Hex()) }

func (s *session) enter(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	s.used = now
}

func (s *session) leave(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.used = now
}

// idle returns for how long nobody has used the session, and whether nobody
// does.
func (s *session) idle(now time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.used), s.users == 0
}

// missing returns the objects that have not arrived, sorted.
func (s *session) missing() []repo.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []repo.Digest{}
	for d, o := range s.objects {
		if o.state == absent || o.state == arriving {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b repo.Digest) int { return slices.Compare(a[:], b[:]) })
	return list
}

// Open begins an upload of a role's next version, or finds the one that was
// begun with the same role file. Body is an api.UploadRequest.
func (i *Ingest) Open(ctx context.Context, role repo.Role, body io.Reader) (api.UploadSession, error) {
	select {
	case i.opening <- struct{}{}:
		defer func() { <-i.opening }()
	case <-ctx.Done():
		return api.UploadSession{}, ctx.Err()
	}
	request, err := decodeRequest(body, i.limits)
	if err != nil {
		return api.UploadSession{}, err
	}
	version, err := i.verifyRole(role, request.role)
	if err != nil {
		return api.UploadSession{}, err
	}
	s, err := i.join(role, version, request)
	if err != nil {
		return api.UploadSession{}, err
	}
	defer func() { s.leave(i.home.Now()) }()
	if err := s.fill(ctx, i); err != nil {
		return api.UploadSession{}, err
	}
	i.log.Info("upload opened", "role", role, "version", version, "session", s.id[:12], "objects", len(request.objects))
	return api.UploadSession{Session: s.id, Missing: s.missing()}, nil
}

// verifyRole checks a role file before anything is accepted for it. What is
// published already is accepted again: the answer to its commit was lost.
func (i *Ingest) verifyRole(role repo.Role, signed []byte) (version int64, err error) {
	metadata, err := i.home.Metadata()
	if err != nil {
		return 0, err
	}
	parsed, err := metadata.VerifyRole(role, signed)
	var wrong *author.VersionError
	if errors.As(err, &wrong) {
		now, readErr := metadata.Published(role)
		if readErr == nil && repo.DigestOf(now) == repo.DigestOf(signed) {
			return wrong.Published, nil
		}
	}
	if err != nil {
		return 0, err
	}
	return parsed.Version, nil
}

// join finds or makes the session of a role file, and enters it.
func (i *Ingest) join(role repo.Role, version int64, r *request) (*session, error) {
	id := repo.DigestOf(r.role).Hex()
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.sessions[id]
	if s == nil {
		if err := i.makeRoom(role); err != nil {
			return nil, err
		}
		s = &session{id: id, role: role, signed: r.role, version: version, dir: filepath.Join(i.home.Uploads(), id)}
		err := i.home.Disk().Mkdir(s.dir, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cannot begin upload: %w", err)
		}
		s.fresh = err == nil
		i.sessions[id] = s
	}
	if err := s.declare(r.objects); err != nil {
		return nil, err
	}
	s.enter(i.home.Now())
	return s, nil
}

// declare replaces what the session expects; what has arrived stays. While
// others work on it, the list must be the same.
func (s *session) declare(objects map[repo.Digest]*object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := len(objects) == len(s.objects)
	for d, o := range objects {
		now := s.objects[d]
		if now == nil || now.size != o.size || now.kind != o.kind {
			same = false
			continue
		}
		if now.state == stored {
			o.state = stored
		}
	}
	if same {
		return nil
	}
	if s.users > 0 {
		return fmt.Errorf("%w: the same role is being uploaded with other objects", ErrBusy)
	}
	s.fresh = s.fresh && s.objects == nil
	s.objects = objects
	return nil
}

// makeRoom lets go of the role's longest unused session if there are too
// many. The caller holds i.mu.
func (i *Ingest) makeRoom(role repo.Role) error {
	var oldest *session
	n, longest := 0, time.Duration(-1)
	for _, s := range i.sessions {
		if s.role != role {
			continue
		}
		n++
		if idle, free := s.idle(i.home.Now()); free && idle > longest {
			oldest, longest = s, idle
		}
	}
	switch {
	case n < i.limits.Sessions:
		return nil
	case oldest == nil:
		return fmt.Errorf("%w: %d uploads of %s are under way", ErrBusy, n, role)
	}
	delete(i.sessions, oldest.id)
	return i.discard(oldest.dir)
}

// fill finds out which declared objects are here: in the tree, or in the
// session's directory from an earlier process, which are hashed again, for a
// crash may have cut them.
func (s *session) fill(ctx context.Context, i *Ingest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bytes int64
	for d, o := range s.objects {
		if o.state == stored || o.state == arriving {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := os.Lstat(i.home.TreePath(treePath(o.kind, d)))
		if err == nil && info.Mode().IsRegular() && info.Size() == o.size {
			o.state = inTree
			continue
		}
		o.state = absent
		if !s.fresh && s.stillGood(d, o) {
			o.state = stored
			continue
		}
		bytes += o.size
	}
	return i.room(bytes)
}

// stillGood reports whether the session's directory holds the object, whole.
func (s *session) stillGood(d repo.Digest, o *object) bool {
	f, err := os.Open(s.path(d))
	if err != nil {
		return false
	}
	defer f.Close()
	got, n, err := digestOf(f, o.size)
	if err == nil && n == o.size && got == d {
		return true
	}
	// Best effort: if it stays, the upload of the object says so.
	_ = os.Remove(s.path(d))
	return false
}

// treePath is where an object is served.
func treePath(kind api.Kind, d repo.Digest) string {
	if kind == api.Blob {
		return repo.BlobPath(d)
	}
	return repo.DataPath(d)
}

// currentRole returns the role as readers see it; nil if it has published
// nothing.
func currentRole(metadata *author.Repository, role repo.Role) (*signing.SignedRole, error) {
	b, err := metadata.Published(role)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return signing.ParseRole(b)
}
