package server

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"stork/repo"
	"stork/repo/internal/home"
	"stork/repo/internal/tracker"
)

// serveAnnounce hands an announce to the tracker. Its answer is small, so a
// client has as long as one that reads nothing.
func (s *Server) serveAnnounce(w http.ResponseWriter, r *http.Request) {
	// As in extend: an error means that there are no deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(s.deadline().after(0))
	s.tracker.ServeHTTP(w, r)
}

// publishedInfo reads an info dictionary from the tree: what is there has
// been compared with its blob.
func (s *Server) publishedInfo(d repo.Digest) (*repo.Info, error) {
	f, err := s.tree.Open(filepath.FromSlash(repo.DataPath(d)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > repo.MaxInfo { // file lists and records are there too
		return nil, errors.New("no info dictionary")
	}
	b, err := io.ReadAll(io.LimitReader(f, repo.MaxInfo+1))
	if err != nil {
		return nil, err
	}
	return repo.DecodeInfo(b)
}

// nestList knows which nests are approved, for some seconds at a time: another
// process may approve one.
type nestList struct {
	home *home.Home
	log  *slog.Logger

	mu    sync.Mutex
	read  time.Time
	nests map[tracker.Key]bool
}

// nestsFor is how long the list is believed.
const nestsFor = 2 * time.Second

func newNestList(h *home.Home, log *slog.Logger) *nestList { return &nestList{home: h, log: log} }

// knows reports whether the operator has approved a nest. While the list can
// not be read, what was read before counts.
func (l *nestList) knows(key tracker.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.read) > nestsFor {
		l.read = now
		nests, err := l.home.Nests()
		if err != nil {
			l.log.Error("approved nests not read", "err", err)
			return l.nests[key]
		}
		l.nests = make(map[tracker.Key]bool, len(nests))
		for i := range nests {
			l.nests[tracker.Key(nests[i].Key)] = true
		}
	}
	return l.nests[key]
}
