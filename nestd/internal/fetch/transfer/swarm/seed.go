package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"

	"stork/repo"
)

// Seed is a blob that this nest has, for others.
type Seed struct {
	Blob   repo.Digest
	Hash   repo.InfoHash
	Places []string // its trackers: see TrackerPlace
	Limit  int64    // bytes that may be sent of it; 0: any

	// Open returns the info dictionary and the file, which is not written any
	// more. It is called when a peer asks for the blob, and again after nobody
	// did for a while.
	Open func() (*repo.Info, *os.File, error)
}

// SeedStatus says what was sent of a seed since [Swarm.Seed] named it first.
type SeedStatus struct {
	Blob repo.Digest
	Sent int64 // bytes
	Open bool  // peers have asked for it of late
	Over bool  // its limit is reached
}

// seed is a seed in the course of time; Swarm.mu guards it.
type seed struct {
	Seed
	trackers []string
	info     *repo.Info
	sent     int64 // until it was last put to sleep
	over     bool

	// While the library has it:
	torrent *torrent.Torrent
	file    *os.File
	release func()
	busy    time.Time // when somebody was connected

	until    time.Time // when it is forgotten; zero: when it is told to
	announce time.Time // when to announce next
	started  bool      // the tracker knows
}

// How many seeds the library has at once, after how long without peers one is
// taken from it, and how often that is looked at.
const (
	maxAwake  = 256
	sleepy    = time.Minute
	seedsTick = time.Second
)

// Seed makes a blob available to peers, and announces it. A seed that is there
// already gets the new places and limit.
func (s *Swarm) Seed(what Seed) error {
	at, err := placesOf(what.Places)
	if err != nil {
		return fmt.Errorf("cannot seed %s: %w", what.Blob, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.seeds[what.Hash]; old != nil {
		if old.Blob != what.Blob {
			return fmt.Errorf("cannot seed %s: %s has the same info hash", what.Blob, old.Blob)
		}
		old.Seed, old.trackers, old.until = what, at.trackers, time.Time{}
		return nil
	}
	s.seeds[what.Hash] = &seed{Seed: what, trackers: at.trackers, info: &repo.Info{Blob: what.Blob}}
	return nil
}

// linger is how long a blob that was fetched is seeded from the spool, until
// Seed says from where it will be: others count on us.
const linger = time.Minute

// linger seeds a blob that has just become whole.
func (s *Swarm) linger(d *download, places []string) {
	if !s.options.Seeds || s.options.Spool == nil {
		return
	}
	info := d.info
	err := s.Seed(Seed{Blob: info.Blob, Hash: d.hash, Places: places, Open: func() (*repo.Info, *os.File, error) {
		f, err := s.options.Spool.Open(info.Blob.Hex())
		return info, f, err
	}})
	if err != nil {
		s.options.Log.Warn("not seeded", "digest", info.Blob, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seed := s.seeds[d.hash]; seed != nil {
		seed.until, seed.started, seed.announce = time.Now().Add(linger), true, time.Now().Add(minAnnounce)
		if err := s.wake(seed); err != nil { // who is connected now comes back at once
			s.options.Log.Info("seed not opened", "digest", info.Blob, "err", err)
		}
	}
}

// Unseed ends that, and reports whether the blob was seeded.
func (s *Swarm) Unseed(hash repo.InfoHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seed := s.seeds[hash]
	if seed == nil {
		return false
	}
	s.forget(hash, seed)
	return true
}

// forget ends a seed. s.mu is held.
func (s *Swarm) forget(hash repo.InfoHash, seed *seed) {
	s.sleep(seed)
	delete(s.seeds, hash)
	if seed.started {
		s.tasks.Go(func() { s.leaveTracker(seed.trackers, hash) })
	}
}

// Seeds returns all seeds, in no order.
func (s *Swarm) Seeds() []SeedStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]SeedStatus, 0, len(s.seeds))
	for _, seed := range s.seeds {
		list = append(list, SeedStatus{Blob: seed.Blob, Sent: seed.total(), Open: seed.torrent != nil, Over: seed.over})
	}
	return list
}

// total returns how many bytes were sent.
func (s *seed) total() int64 {
	if s.torrent == nil {
		return s.sent
	}
	stats := s.torrent.Stats()
	return s.sent + stats.BytesWrittenData.Int64()
}

// wake shows a seed to the library. s.mu is held.
func (s *Swarm) wake(seed *seed) (err error) {
	if seed.torrent != nil {
		return nil
	}
	if seed.over || s.awake() >= maxAwake {
		return errors.New("enough is being sent")
	}
	release, err := s.suspects.begin(seed.Blob)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	info, file, err := seed.Open()
	if err != nil {
		return err
	}
	if info.Blob != seed.Blob || info.Swarm().InfoHash != seed.Hash {
		return errors.Join(errors.New("it has another info dictionary"), file.Close())
	}
	t, fresh := s.client.AddTorrentOpt(torrent.AddTorrentOpts{
		InfoHash: metainfo.Hash(seed.Hash), InfoBytes: info.Encode(), Storage: seedStorage{file}, DisableInitialPieceCheck: true,
	})
	if !fresh || t.Info() == nil {
		return errors.Join(errors.New("the library does not take it"), file.Close())
	}
	seed.torrent, seed.file, seed.release, seed.info, seed.busy = t, file, release, info, time.Now()
	return nil
}

// awake counts the seeds that the library has. s.mu is held.
func (s *Swarm) awake() int {
	n := 0
	for _, seed := range s.seeds {
		if seed.torrent != nil {
			n++
		}
	}
	return n
}

// sleep takes a seed from the library. s.mu is held.
func (s *Swarm) sleep(seed *seed) {
	if seed.torrent == nil {
		return
	}
	seed.sent = seed.total()
	seed.torrent.Drop()
	seed.torrent = nil
	if err := seed.close(); err != nil {
		s.options.Log.Warn("seed not closed", "digest", seed.Blob, "err", err)
	}
}

// close gives back what an open seed has.
func (s *seed) close() error {
	if s.file == nil {
		return nil
	}
	s.release()
	s.info = &repo.Info{Blob: s.Blob}
	err := s.file.Close()
	s.file = nil
	return err
}

// keepSeeds puts seeds to sleep and announces them until ctx ends.
func (s *Swarm) keepSeeds(ctx context.Context) {
	tick := time.NewTicker(seedsTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.lookAtSeeds()
		s.announceSeeds(ctx)
	}
}

// lookAtSeeds ends what nobody wants, and what was wanted enough.
func (s *Swarm) lookAtSeeds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for hash, seed := range s.seeds {
		if !seed.until.IsZero() && now.After(seed.until) {
			s.forget(hash, seed)
		}
		if seed.torrent == nil {
			continue
		}
		if len(seed.torrent.PeerConns()) > 0 {
			seed.busy = now
		}
		if seed.over = seed.Limit > 0 && seed.total() >= seed.Limit; seed.over {
			seed.announce = now // that it is
		}
		if seed.over || now.Sub(seed.busy) >= sleepy {
			s.sleep(seed)
		}
	}
}

// due is a seed whose tracker is to be told.
type due struct {
	hash     repo.InfoHash
	trackers []string
	event    string
}

// maxDue is how many seeds are announced in one tick, so that a nest with many
// of them does not come to a tracker with all at once.
const maxDue = 50

func (s *Swarm) dueSeeds(now time.Time) []due {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []due
	for hash, seed := range s.seeds {
		if len(list) == maxDue {
			break
		}
		if len(seed.trackers) == 0 || now.Before(seed.announce) || seed.over && !seed.started {
			continue
		}
		event := ""
		switch {
		case seed.over:
			event = "stopped"
		case !seed.started:
			event = "started"
		}
		list = append(list, due{hash, seed.trackers, event})
		seed.announce = now.Add(maxRetry) // unless it is answered
	}
	return list
}

// announceSeeds tells trackers of the seeds whose time has come. While one
// does not answer, the others wait.
func (s *Swarm) announceSeeds(ctx context.Context) {
	for _, at := range s.dueSeeds(time.Now()) {
		a := announcer{swarm: s, hash: at.hash, trackers: at.trackers}
		answer, err := a.any(ctx, 0, at.event)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.options.Log.Info("tracker does not answer", "err", err)
			return
		}
		s.announced(at, min(max(answer.interval, minAnnounce), maxAnnounce))
	}
}

func (s *Swarm) announced(at due, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seed := s.seeds[at.hash]; seed != nil {
		seed.announce, seed.started = time.Now().Add(wait), at.event != "stopped"
	}
}

// leaveTracker says that a blob is seeded no more.
func (s *Swarm) leaveTracker(trackers []string, hash repo.InfoHash) {
	a := announcer{swarm: s, hash: hash, trackers: trackers}
	a.farewell(false)
}

// seedStorage is a whole file, as the library's storage.
type seedStorage struct{ file *os.File }

// OpenTorrent implements [storage.ClientImpl].
func (s seedStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{
		Piece: func(p metainfo.Piece) storage.PieceImpl {
			return seedPiece{io.NewSectionReader(s.file, p.Offset(), p.Length())}
		},
		Close: func() error { return nil },
	}, nil
}
