package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

// Options say where a store is and how it writes.
type Options struct {
	Dir  string // made if it is not there; no symlinks in it are followed by the store's own work
	Disk durable.Disk
	Log  *slog.Logger // nil: none
}

// Store is an open store. Its methods may be called from several goroutines;
// layers with different package IDs do not get in each other's way.
type Store struct {
	dir  string
	disk durable.Disk
	log  *slog.Logger
	lock *os.File

	// recovered is set by Recover: before, staging may hold ready layers.
	recovered atomic.Bool

	// shards guard the objects whose identity starts with that byte: who
	// looks at an object's link count, to add a link or to drop the object,
	// holds its shard. Every object in objects/ has a second link, in a tree,
	// from the moment that its shard is released.
	shards [256]sync.Mutex

	// removing is held by whoever takes links away: of two removals at the
	// same time neither would see that it takes the last one.
	removing sync.Mutex
}

const (
	objectsName = "objects"
	layersName  = "layers"
	stagingName = "staging"
	trashName   = "trash"
	lockName    = "lock"
)

// ErrBusy says that another process has the store open.
var ErrBusy = errors.New("another daemon has it open")

// Open opens the store, making what is missing of its directories. Nothing
// that an earlier run left is touched until [Store.Recover].
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{dir: filepath.Clean(o.Dir), disk: o.Disk, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open store %s: %w", s.dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.disk.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	for _, name := range []string{stagingName, trashName} {
		if err := s.disk.MkdirAll(filepath.Join(s.dir, name), 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{objectsName, layersName} {
		if err := s.fanOut(ctx, filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	return s.disk.SyncDir(s.dir)
}

func (s *Store) takeLock() error {
	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrBusy
		}
		return err
	}
	return nil
}

// fanOut makes the 256 directories below dir that no later step has to make.
// Layers and objects are reached through mounts of their own by guests' users
// too, so these directories can be searched, while the store's own can not.
func (s *Store) fanOut(ctx context.Context, dir string) error {
	if err := s.disk.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	have, err := os.ReadDir(dir)
	if err != nil || len(have) == len(s.shards) {
		return err
	}
	for n := range s.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.disk.Mkdir(filepath.Join(dir, shardName(n)), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return s.disk.SyncDir(dir)
}

func shardName(n int) string { return fmt.Sprintf("%02x", n) }

// Close gives the store up. Nothing may be in progress.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// LayersDir returns the directory that holds the layers, each at the path
// that [Store.Layer] returns.
func (s *Store) LayersDir() string { return filepath.Join(s.dir, layersName) }

func (s *Store) layerPath(id repo.Digest) string {
	h := id.Hex()
	return filepath.Join(s.dir, layersName, h[:2], h)
}

// Layer returns the path of a package's tree, and whether it is there.
func (s *Store) Layer(id repo.Digest) (string, bool) {
	path := s.layerPath(id)
	info, err := os.Lstat(path)
	return path, err == nil && info.IsDir()
}

// Layers returns the package IDs of all layers that are in their place.
func (s *Store) Layers() ([]repo.Digest, error) {
	var ids []repo.Digest
	for n := range s.shards {
		entries, err := os.ReadDir(filepath.Join(s.dir, layersName, shardName(n)))
		if err != nil {
			return nil, fmt.Errorf("cannot list layers: %w", err)
		}
		for _, entry := range entries {
			id, err := repo.ParseHex(entry.Name())
			if err != nil {
				return nil, fmt.Errorf("cannot list layers: %s/%s is none: %w", shardName(n), entry.Name(), err)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}
