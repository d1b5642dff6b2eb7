package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"stork/repo"
)

// gate is what all connections to and from peers pass. It lets nobody through
// from elsewhere than the allowed networks, nor more than it can bear, and
// reads from who connects which swarm is meant before the library sees it.
type gate struct {
	listener net.Listener
	networks networks
	local    netip.Addr // whence we connect; invalid: wherever
	wants    func(repo.InfoHash) bool
	ready    chan net.Conn
	done     chan struct{}
	tasks    sync.WaitGroup

	mu     sync.Mutex
	conns  map[*gated]bool
	banned map[netip.Addr]time.Time // until when
}

// Bounds of the gate.
const (
	maxConns        = 1024 // in all
	maxPerAddress   = 32
	greetingTimeout = 5 * time.Second
	maxBanned       = 4096 // addresses
)

// The beginning of a handshake (BEP 3): what it is, eight bytes of flags, and
// the info hash.
const (
	greeting     = "\x13BitTorrent protocol"
	greetingSize = len(greeting) + 8 + len(repo.InfoHash{})
)

func newGate(listener net.Listener, n networks, local netip.Addr, wants func(repo.InfoHash) bool) *gate {
	g := &gate{
		listener: listener, networks: n, local: local, wants: wants, ready: make(chan net.Conn), done: make(chan struct{}),
		conns: map[*gated]bool{}, banned: map[netip.Addr]time.Time{},
	}
	g.tasks.Go(g.run)
	return g
}

// gated is a connection that has passed. Its first bytes may have been read.
type gated struct {
	net.Conn
	gate *gate
	peer netip.Addr
	head []byte
	once sync.Once
}

// Read implements [io.Reader].
func (c *gated) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Close implements [io.Closer].
func (c *gated) Close() error {
	c.once.Do(func() {
		c.gate.mu.Lock()
		defer c.gate.mu.Unlock()
		delete(c.gate.conns, c)
	})
	return c.Conn.Close()
}

var errGate = errors.New("no connection with that address")

// admit counts a connection in; nil if it may not be.
func (g *gate) admit(conn net.Conn) *gated {
	at, err := addressOf(conn.RemoteAddr())
	if err != nil || !g.networks.allow(at.Addr()) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) >= maxConns || time.Now().Before(g.banned[at.Addr()]) {
		return nil
	}
	same := 0
	for c := range g.conns {
		if c.peer == at.Addr() {
			same++
		}
	}
	if same >= maxPerAddress {
		return nil
	}
	c := &gated{Conn: conn, gate: g, peer: at.Addr()}
	g.conns[c] = true
	return c
}

// run accepts until the gate is closed.
func (g *gate) run() {
	for {
		conn, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files: it passes
			select {
			case <-g.done:
				return
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		c := g.admit(conn)
		if c == nil {
			conn.Close()
			continue
		}
		g.tasks.Go(func() {
			if err := g.greet(c); err != nil {
				c.Close()
			}
		})
	}
}

// greet reads which swarm is meant, and hands the connection on.
func (g *gate) greet(c *gated) error {
	if err := c.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return err
	}
	head := make([]byte, greetingSize)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	hash := repo.InfoHash(head[greetingSize-len(repo.InfoHash{}):])
	if string(head[:len(greeting)]) != greeting || !g.wants(hash) {
		return errGate
	}
	c.head = head
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case g.ready <- c:
		return nil
	case <-g.done:
		return net.ErrClosed
	}
}

// Accept is what the library calls.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Addr is where peers connect.
func (g *gate) Addr() net.Addr { return g.listener.Addr() }

// Dial is what the library calls to connect to a peer.
func (g *gate) Dial(ctx context.Context, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !g.networks.allow(at.Addr()) {
		return nil, fmt.Errorf("%w %s", errGate, address)
	}
	dialer := net.Dialer{KeepAlive: -1}
	if g.local.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(g.local, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := g.admit(conn)
	if c == nil {
		conn.Close()
		return nil, fmt.Errorf("%w %s", errGate, address)
	}
	return c, nil
}

// DialerNetwork is what the library calls our network.
func (g *gate) DialerNetwork() string { return "tcp" }

// ban ends all connections with an address, and allows none for a while.
func (g *gate) ban(at netip.Addr, d time.Duration) {
	now := time.Now()
	g.mu.Lock()
	for other, until := range g.banned {
		if now.After(until) {
			delete(g.banned, other)
		}
	}
	if len(g.banned) < maxBanned {
		g.banned[at] = now.Add(d)
	}
	var theirs []*gated
	for c := range g.conns {
		if c.peer == at {
			theirs = append(theirs, c)
		}
	}
	g.mu.Unlock()
	for _, c := range theirs {
		c.Close()
	}
}

// close ends everything. The library's client must have been closed, for it
// calls Accept again and again until it is.
func (g *gate) close() error {
	close(g.done)
	err := g.listener.Close()
	g.mu.Lock()
	var all []*gated
	for c := range g.conns {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	g.tasks.Wait()
	return err
}
