package swarm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/peer_protocol"
	"golang.org/x/time/rate"

	"stork/repo"
)

// Options say how a nest takes part in swarms.
type Options struct {
	Listen   netip.AddrPort // where peers connect; port 0: any that is free
	Networks []netip.Prefix // that peers may be in; empty: [Private]
	HTTP     *http.Client   // for announces

	// Local is whether peers are looked for, and answered, in the local
	// network (BEP 14).
	Local bool

	// Seeds is whether what was fetched will be seeded: then others are told
	// to stay.
	Seeds bool

	// Upload is a limit in bytes a second, with a burst of at least
	// [MinBurst]; nil: none. What is received each job paces.
	Upload *rate.Limiter

	// Spool is where a blob that is on its way is marked, so that one which
	// makes the library panic is known; nil: nowhere. Crashed says that the
	// process before this one died of a panic.
	Spool   *os.Root
	Crashed bool

	Log *slog.Logger
}

// MinBurst is how many bytes a limiter must let through at once.
const MinBurst = 256 << 10

// Swarm is a nest's part in all swarms. Its methods may be called from
// several goroutines.
type Swarm struct {
	options  Options
	client   *torrent.Client
	gate     *gate
	local    *local
	suspects *suspects
	peerID   string
	stop     context.CancelFunc
	tasks    sync.WaitGroup

	// The library calls us under its lock, and we call it under mu: so what it
	// asks for is beside mu.
	downloads sync.Map // repo.InfoHash → *download

	mu    sync.Mutex
	seeds map[repo.InfoHash]*seed
}

// New listens for peers.
func New(o Options) (*Swarm, error) {
	if len(o.Networks) == 0 {
		o.Networks = Private()
	}
	s := &Swarm{options: o, seeds: map[repo.InfoHash]*seed{}}
	// Digits and letters, for it goes into addresses of trackers.
	s.peerID = "-SK0001-" + rand.Text()[:12]
	s.suspects = newSuspects(o.Spool, o.Crashed, o.Log)
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(o.Listen))
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers: %w", err)
	}
	from := o.Listen.Addr()
	if from.IsUnspecified() {
		from = netip.Addr{}
	}
	s.gate = newGate(listener, o.Networks, from, s.wanted)
	if s.client, err = torrent.NewClient(s.config()); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start BitTorrent: %w", err), s.gate.close())
	}
	s.client.AddListener(s.gate)
	s.client.AddDialer(s.gate)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.tasks.Go(func() { s.keepSeeds(ctx) })
	if o.Local {
		s.local = newLocal(s, o.Log)
		s.tasks.Go(func() { s.local.run(ctx) })
	}
	return s, nil
}

// config turns everything off that looks for peers, or connects to them, by
// itself.
func (s *Swarm) config() *torrent.ClientConfig {
	c := torrent.NewDefaultClientConfig()
	c.NoDHT, c.PeriodicallyAnnounceTorrentsToDht, c.DisablePEX, c.DisableUTP = true, false, true, true
	c.NoDefaultPortForwarding, c.DisableTrackers, c.DisableWebtorrent, c.DisableWebseeds = true, true, true, true
	c.DisableTCP = true // the gate listens and dials
	c.ListenHost = func(string) string { return "127.0.0.1" }
	c.ListenPort = 0
	c.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{Preferred: false, RequirePreferred: true}
	c.Seed, c.DropDuplicatePeerIds = true, true
	c.IPBlocklist = networks(s.options.Networks)
	c.DefaultStorage = noStorage{}
	c.PeerID, c.ExtendedHandshakeClientVersion = s.peerID, "stork "+repo.Version
	if s.options.Upload != nil {
		c.UploadRateLimiter = s.options.Upload
	}
	c.NominalDialTimeout, c.MinDialTimeout = 5*time.Second, 2*time.Second
	c.DialRateLimiter = rate.NewLimiter(50, 50)
	c.Slogger = slog.New(slog.DiscardHandler)
	c.Callbacks.ReceivedUsefulData = append(c.Callbacks.ReceivedUsefulData, s.received)
	c.Callbacks.ReadExtendedHandshake, c.Callbacks.ReadMessage = s.greeted, s.read
	c.Callbacks.SentRequest = append(c.Callbacks.SentRequest, func(e torrent.PeerRequestEvent) { s.requested(e, 1) })
	c.Callbacks.DeletedRequest = append(c.Callbacks.DeletedRequest, func(e torrent.PeerRequestEvent) { s.requested(e, -1) })
	return c
}

// Name implements [transfer.Method].
func (s *Swarm) Name() string { return methodName }

const methodName = "bittorrent"

// Addr returns where peers connect.
func (s *Swarm) Addr() netip.AddrPort {
	at, _ := addressOf(s.gate.Addr()) // always is one
	return at
}

// Close ends all connections. No Fetch may be running.
func (s *Swarm) Close() error {
	s.stop()
	var errs []error
	for _, err := range s.client.Close() {
		errs = append(errs, err)
	}
	errs = append(errs, s.gate.close())
	s.tasks.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seed := range s.seeds {
		errs = append(errs, seed.close())
	}
	return errors.Join(errs...)
}

// wanted reports whether peers may connect for a swarm. A seed that nobody
// asked for until now is shown to the library.
func (s *Swarm) wanted(hash repo.InfoHash) bool {
	if s.download(hash) != nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seed := s.seeds[hash]
	if seed == nil {
		return false
	}
	if err := s.wake(seed); err != nil {
		s.options.Log.Warn("seed not opened", "digest", seed.info.Blob, "err", err)
		return false
	}
	return true
}

// received notes who sent a block that is about to be written.
func (s *Swarm) received(e torrent.ReceivedUsefulDataEvent) {
	d := s.download(repo.InfoHash(e.Peer.Torrent().InfoHash()))
	at, err := addressOf(e.Peer.RemoteAddr)
	if d != nil && err == nil {
		d.expect(int64(e.Message.Index)*d.info.PieceLength()+int64(e.Message.Begin), at.Addr())
	}
}

// greeted notes where somebody listens who has called us (BEP 10).
func (s *Swarm) greeted(conn *torrent.PeerConn, said *peer_protocol.ExtendedHandshakeMessage) {
	d := s.download(repo.InfoHash(conn.Torrent().InfoHash()))
	at, err := addressOf(conn.RemoteAddr)
	if d == nil || err != nil || said.Port <= 0 || said.Port > math.MaxUint16 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ports) < maxConns {
		d.ports[at] = uint16(said.Port)
	}
}

// read notes who lets us wait on purpose, which good peers do: those who have
// many to send to.
func (s *Swarm) read(conn *torrent.PeerConn, m *peer_protocol.Message) {
	if m.Keepalive || m.Type != peer_protocol.Choke && m.Type != peer_protocol.Unchoke {
		return
	}
	d := s.download(repo.InfoHash(conn.Torrent().InfoHash()))
	at, err := addressOf(conn.RemoteAddr)
	if d != nil && err == nil {
		d.choke(at.Addr(), m.Type == peer_protocol.Choke)
	}
}

// requested notes how many blocks a peer was asked for and has not sent.
func (s *Swarm) requested(e torrent.PeerRequestEvent, n int) {
	d := s.download(repo.InfoHash(e.Peer.Torrent().InfoHash()))
	at, err := addressOf(e.Peer.RemoteAddr)
	if d != nil && err == nil {
		d.wait(at.Addr(), n)
	}
}

func (s *Swarm) download(hash repo.InfoHash) *download {
	d, _ := s.downloads.Load(hash)
	found, _ := d.(*download)
	return found
}
