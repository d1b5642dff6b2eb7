package swarm

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"

	"stork/nestd/internal/fetch/transfer"
)

// How often a download looks around: what of the blob others have brought,
// and who is to be connected with again.
const (
	syncEvery    = 100 * time.Millisecond
	connectEvery = time.Second
)

// Fetch implements [transfer.Method]. It does not give up by itself: peers may
// come.
func (s *Swarm) Fetch(ctx context.Context, job *transfer.Job) error {
	info, err := infoOf(job.Order)
	if err != nil {
		return err
	}
	at, err := placesOf(job.Places)
	if err != nil {
		return err
	}
	release, err := s.suspects.begin(info.Blob)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := newDownload(ctx, s, job, info)
	t, err := s.join(d)
	if err != nil {
		return err
	}
	found := newPeers(at.peers)
	a := &announcer{swarm: s, hash: d.hash, trackers: at.trackers, tell: found.add}
	if s.local != nil {
		s.local.look(d.hash, found.add)
		defer s.local.forget(d.hash)
	}
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		a.run(ctx, func() int64 { return info.Size - job.Blob.Stored() })
	}()
	err = d.work(ctx, t, found)
	cancel()
	s.leave(d, t)
	<-announced
	stays := err == nil && s.options.Seeds
	if stays {
		s.linger(d, job.Places)
	}
	s.tasks.Go(func() { a.farewell(stays) })
	return err
}

// join shows the blob to the library.
func (s *Swarm) join(d *download) (*torrent.Torrent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seed := s.seeds[d.hash]; seed != nil { // the file was lost, or it would not be fetched
		s.sleep(seed)
	}
	if _, taken := s.downloads.LoadOrStore(d.hash, d); taken {
		return nil, fmt.Errorf("cannot join the swarm of %s: it is being fetched already", d.info.Blob)
	}
	t, fresh := s.client.AddTorrentOpt(torrent.AddTorrentOpts{
		InfoHash: metainfo.Hash(d.hash), InfoBytes: d.info.Encode(), Storage: d, DisableInitialPieceCheck: true,
	})
	if !fresh || t.Info() == nil {
		s.downloads.Delete(d.hash)
		return nil, fmt.Errorf("cannot join the swarm of %s: the library does not take it", d.info.Blob)
	}
	t.SetOnWriteChunkError(d.fail)
	t.DownloadAll()
	return t, nil
}

// leave takes the blob from the library.
func (s *Swarm) leave(d *download, t *torrent.Torrent) {
	d.end()
	t.Drop()
	s.downloads.Delete(d.hash)
}

// work returns when nothing is missing, or nothing can be done.
func (d *download) work(ctx context.Context, t *torrent.Torrent, found *peers) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	done := d.job.Blob.Done()
	var looked time.Time
	peers := 0
	for {
		if err := d.failed(); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(looked) >= connectEvery || found.fresh() {
			looked = now
			there := d.connected(t)
			d.job.Blob.Around(around(t), d.active() > 0)
			peers = len(there)
			t.AddPeers(found.infos(d.swarm.gate.networks, there))
			d.nudge(t)
		}
		for _, at := range d.silent(peers) {
			d.job.Log.Info("peer sends nothing", "digest", d.info.Blob, "peer", at)
			d.swarm.gate.ban(at, banSilent)
		}
		d.job.Peers(d.active())
		if err := d.sync(ctx, t); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return nil
		case <-tick.C:
		}
	}
}

// sync tells the library of pieces that came another way, and of those that
// were dropped.
func (d *download) sync(ctx context.Context, t *torrent.Torrent) error {
	for i := range d.known {
		has := d.job.Blob.Has(d.span(i))
		d.mu.Lock()
		known := d.known[i]
		d.mu.Unlock()
		if has == known {
			continue
		}
		if state := t.PieceState(i); state.Checking || state.Marking {
			continue // the library is about to find out
		}
		// The library asks SelfHash, which is a look at the blob.
		if err := t.Piece(i).VerifyDataContext(ctx); err != nil {
			return fmt.Errorf("cannot show piece %d to the swarm: %w", i, err)
		}
	}
	return nil
}

// around returns what tells which pieces those have who are connected.
func around(t *torrent.Torrent) func(int) bool {
	has := make([]bool, t.NumPieces())
	for _, conn := range t.PeerConns() {
		for _, i := range conn.PeerPieces().ToArray() {
			if int(i) < len(has) {
				has[i] = true
			}
		}
	}
	return func(i int) bool { return has[i] }
}

// maxNudged is how many pieces are asked for anew at once.
const maxNudged = 16

// nudge has the library think again about what to ask for, if nothing has come
// for a while: after a request that was taken from one peer for another and
// refused, it may ask nobody, with a seed at hand. It thinks when a piece
// becomes wanted that was not.
func (d *download) nudge(t *torrent.Torrent) {
	if d.active() > 0 {
		return
	}
	d.mu.Lock()
	var missing []int
	for i, known := range d.known {
		if !known {
			missing = append(missing, i)
		}
	}
	d.mu.Unlock()
	for range min(maxNudged, len(missing)) {
		p := t.Piece(missing[mathrand.IntN(len(missing))])
		p.SetPriority(torrent.PiecePriorityNone)
		p.SetPriority(torrent.PiecePriorityNormal)
	}
}

// connected returns the addresses at which those listen who are connected,
// whoever called whom: the library knows only whom it called.
func (d *download) connected(t *torrent.Torrent) map[netip.AddrPort]bool {
	there, ports := map[netip.AddrPort]bool{}, map[netip.AddrPort]uint16{}
	conns := t.PeerConns() // not under d.mu: the library calls us under its lock
	d.mu.Lock()
	defer func() { d.ports = ports; d.mu.Unlock() }()
	for _, conn := range conns {
		at, err := addressOf(conn.RemoteAddr)
		if err != nil {
			continue
		}
		there[at] = true
		if port := d.ports[at]; port != 0 {
			there[netip.AddrPortFrom(at.Addr(), port)] = true
			ports[at] = port
		}
	}
	return there
}

// peerInfos returns addresses as the library wants them.
func peerInfos(list []netip.AddrPort, n networks, there map[netip.AddrPort]bool) []torrent.PeerInfo {
	var infos []torrent.PeerInfo
	for _, at := range list {
		if n.allow(at.Addr()) && !there[at] {
			infos = append(infos, torrent.PeerInfo{Addr: torrent.StringAddr(at.String()), Source: torrent.PeerSourceTracker})
		}
	}
	return infos
}
