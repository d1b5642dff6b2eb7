package swarm

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"

	"stork/repo"
)

// suspects knows which blobs were in the library's hands when it ended the
// process. Each has a file in the spool while it is, named by its digest, with
// a dot for every process that died of a panic meanwhile. So no blob can have
// one fetcher after another die.
type suspects struct {
	spool *os.Root
	log   *slog.Logger

	mu    sync.Mutex
	using map[repo.Digest]int // how many times begun
}

const (
	suspectSuffix = ".swarm"
	maxPanics     = 2
)

var errSuspect = errors.New("BitTorrent has failed on this package")

// newSuspects looks for what the process before this one left. One that was
// killed, or crashed as a machine does, has not panicked.
func newSuspects(spool *os.Root, crashed bool, log *slog.Logger) *suspects {
	s := &suspects{spool: spool, log: log, using: map[repo.Digest]int{}}
	if spool == nil {
		return s
	}
	names, err := fs.Glob(spool.FS(), "*"+suspectSuffix)
	for _, name := range names {
		digest, parseErr := repo.ParseHex(strings.TrimSuffix(name, suspectSuffix))
		if parseErr != nil {
			continue
		}
		err = errors.Join(err, s.note(digest, crashed))
	}
	if err != nil {
		log.Warn("what made BitTorrent fail is not known", "err", err)
	}
	return s
}

func nameOf(d repo.Digest) string { return d.Hex() + suspectSuffix }

// panics returns how many processes died with a blob.
func (s *suspects) panics(d repo.Digest) int {
	info, err := s.spool.Lstat(nameOf(d))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// note counts a panic, or removes the file of a blob that has seen none.
func (s *suspects) note(d repo.Digest, panicked bool) error {
	if !panicked {
		if s.panics(d) == 0 {
			return s.spool.Remove(nameOf(d))
		}
		return nil
	}
	f, err := s.spool.OpenFile(nameOf(d), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(".")
	s.log.Warn("BitTorrent failed while it had a package", "digest", d, "times", s.panics(d))
	return errors.Join(err, f.Close())
}

// begin marks a blob until release, and refuses one that has done enough.
func (s *suspects) begin(d repo.Digest) (release func(), err error) {
	if s.spool == nil {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics(d) >= maxPanics {
		return nil, errSuspect
	}
	f, err := s.spool.OpenFile(nameOf(d), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot mark the package: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("cannot mark the package: %w", err)
	}
	s.using[d]++
	return func() { s.end(d) }, nil
}

func (s *suspects) end(d repo.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.using[d]--; s.using[d] > 0 {
		return
	}
	delete(s.using, d)
	if err := s.note(d, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("mark of a package is left", "digest", d, "err", err)
	}
}
