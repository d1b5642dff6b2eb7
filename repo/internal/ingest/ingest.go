package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/internal/home"
)

// Limits bound what publishers may make the repository keep and do. Zero
// fields mean the default.
type Limits struct {
	Objects  int           // in one upload; default one million, about 100 bytes of memory each
	Request  int64         // bytes of one UploadRequest, decompressed; default 192 MiB
	Bytes    int64         // of one upload's objects; default 512 GiB
	Sessions int           // open at the same time for one role; default 4
	Idle     time.Duration // after which an unused session is removed; default 24 hours
	Workers  int           // packages that are rebuilt at the same time; default one for each processor, at most 4
	Deltas   int           // earlier indexes from which there is a delta to the newest; default 8
	NoFrames bool          // packages are offered whole only; see writeFrames
	PackFrom int           // shards from which an index is also served as one stream; default 65: fewer are as quickly fetched one by one
}

func (l Limits) withDefaults(processors int) Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Objects, 1_000_000)
	l.Objects = min(l.Objects, api.MaxObjects)
	def(&l.Sessions, 4)
	def(&l.Deltas, 8)
	def(&l.PackFrom, 65)
	def(&l.Workers, min(processors, 4))
	if l.Request <= 0 {
		l.Request = 192 << 20
	}
	l.Request = min(l.Request, api.MaxUploadRequest)
	if l.Bytes <= 0 {
		l.Bytes = 512 << 30
	}
	if l.Idle <= 0 {
		l.Idle = 24 * time.Hour
	}
	return l
}

// Ingest takes uploads for one repository. One process at a time may have
// it; its methods may be called from several goroutines.
type Ingest struct {
	home   *home.Home
	log    *slog.Logger
	limits Limits

	opening chan struct{} // a token for each request that is being decoded: its memory comes before its signature

	mu       sync.Mutex // guards sessions; taken before a session's own
	sessions map[string]*session
}

// New takes uploads into h. Call Recover before anything else. Processors is
// how many can work at the same time.
func New(h *home.Home, log *slog.Logger, limits Limits, processors int) *Ingest {
	return &Ingest{
		home: h, log: log, limits: limits.withDefaults(processors),
		opening: make(chan struct{}, 2), sessions: map[string]*session{},
	}
}

// find returns a session in use; the caller calls leave.
func (i *Ingest) find(role repo.Role, id string) (*session, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.sessions[id]
	if s == nil || s.role != role {
		return nil, ErrNoSession
	}
	s.enter(i.home.Now())
	return s, nil
}

// Expire removes the sessions that nobody has used for long. Call it every
// now and then.
func (i *Ingest) Expire() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for id, s := range i.sessions {
		if idle, free := s.idle(i.home.Now()); free && idle >= i.limits.Idle {
			delete(i.sessions, id)
			errs = append(errs, i.discard(s.dir))
		}
	}
	return errors.Join(append(errs, i.expireStored())...)
}

// expireStored removes session directories that an earlier process left and
// nobody has come back for.
func (i *Ingest) expireStored() error {
	entries, err := os.ReadDir(i.home.Uploads())
	if err != nil {
		return fmt.Errorf("cannot list uploads: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || i.sessions[entry.Name()] != nil || i.home.Now().Sub(info.ModTime()) < i.limits.Idle {
			continue
		}
		if err := i.discard(filepath.Join(i.home.Uploads(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// discard removes a session's directory. Under a name that recovery clears,
// for removal takes long and may be interrupted.
func (i *Ingest) discard(dir string) error {
	disk, trash := i.home.Disk(), filepath.Join(filepath.Dir(dir), trashPrefix+filepath.Base(dir))
	err := disk.RemoveAll(trash)
	if err == nil {
		err = disk.Rename(dir, trash)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = disk.RemoveAll(trash)
	}
	if err != nil {
		return fmt.Errorf("cannot remove upload: %w", err)
	}
	return nil
}

// trashPrefix starts the names of session directories that are being removed.
const trashPrefix = ".trash-"

// room checks that the disk has that many bytes, and some to spare for
// metadata.
func (i *Ingest) room(bytes int64) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(i.home.Uploads(), &stat); err != nil {
		return fmt.Errorf("cannot measure free space: %w", err)
	}
	const spare = 64 << 20
	if free := int64(stat.Bavail) * stat.Bsize; bytes > free-spare {
		return fmt.Errorf("%w: the upload needs %d bytes, %d are free", ErrNoSpace, bytes, max(free-spare, 0))
	}
	return nil
}

// published reports whether the role file is the one that readers see.
func (i *Ingest) published(ctx context.Context, role repo.Role, digest repo.Digest) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	metadata, err := i.home.Metadata()
	if err != nil {
		return false, err
	}
	b, err := metadata.Published(role)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && repo.DigestOf(b) == digest, err
}
