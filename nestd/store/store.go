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

	fewSyncs int // see defaultFewSyncs; tests lower it
	syncer   syncer

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
	s := &Store{dir: filepath.Clean(o.Dir), disk: o.Disk, log: o.Log, fewSyncs: defaultFewSyncs}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open store %s: %w", s.dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open() error {
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
	spread(filepath.Join(s.dir, stagingName))
	// Guests reach layers, through mounts of their own, as any of their users.
	for _, name := range []string{objectsName, layersName} {
		if err := s.disk.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
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
	if err := durable.TryLock(lock); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrBusy
		}
		return err
	}
	return nil
}

// ensureDir makes one of the directories in objects/ or layers/. Somebody
// else may have made it meanwhile.
func (s *Store) ensureDir(dir string) error {
	if err := s.disk.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// children returns the paths of everything in the directories in objects/ or
// layers/.
func (s *Store) children(name string) ([]string, error) {
	dir := filepath.Join(s.dir, name)
	shards, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, shard := range shards {
		entries, err := os.ReadDir(filepath.Join(dir, shard.Name()))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			paths = append(paths, filepath.Join(dir, shard.Name(), entry.Name()))
		}
	}
	return paths, nil
}

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
	paths, err := s.children(layersName)
	if err != nil {
		return nil, fmt.Errorf("cannot list layers: %w", err)
	}
	ids := make([]repo.Digest, len(paths))
	for i, path := range paths {
		if ids[i], err = repo.ParseHex(filepath.Base(path)); err != nil {
			return nil, fmt.Errorf("cannot list layers: %s is none: %w", path, err)
		}
	}
	return ids, nil
}
