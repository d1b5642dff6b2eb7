package swarm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"stork/repo"
)

// local finds peers in the networks that this host is part of (BEP 14, IPv4).
// Who wants a blob says so to all; who has it, or wants it too, says the same,
// and so both know of each other.
type local struct {
	swarm  *Swarm
	log    *slog.Logger
	cookie string // in what we say, to know it again

	mu     sync.Mutex
	conns  []*net.UDPConn
	wanted map[repo.InfoHash]*search
	said   map[repo.InfoHash]time.Time
}

// search is a blob that is looked for.
type search struct {
	found func([]netip.AddrPort)
	again time.Time // when to ask again
}

// Where and how often peers are asked for, and how long a datagram is.
const (
	localGroup  = "239.192.152.143:6771"
	searchEvery = time.Minute
	answerEvery = 10 * time.Second // for one blob
	maxSearch   = 1400
	maxSaid     = 4096
	localTick   = time.Second
)

func newLocal(s *Swarm, log *slog.Logger) *local {
	return &local{
		swarm: s, log: log, cookie: rand.Text()[:12], wanted: map[repo.InfoHash]*search{}, said: map[repo.InfoHash]time.Time{},
	}
}

// look asks for a blob until forget.
func (l *local) look(hash repo.InfoHash, found func([]netip.AddrPort)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted[hash] = &search{found: found}
}

func (l *local) forget(hash repo.InfoHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.wanted, hash)
}

// run asks and answers until ctx ends.
func (l *local) run(ctx context.Context) {
	group := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(localGroup))
	var readers sync.WaitGroup
	for _, conn := range l.listen(group) {
		readers.Go(func() { l.read(conn, group) })
	}
	tick := time.NewTicker(localTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, hash := range l.due(time.Now()) {
			l.say(hash, group)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	l.mu.Lock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.mu.Unlock()
	readers.Wait()
}

// listen joins the group in every network of this host. What fails is no
// reason to fetch nothing.
func (l *local) listen(group *net.UDPAddr) []*net.UDPConn {
	interfaces, err := net.Interfaces()
	for _, at := range interfaces {
		if at.Flags&net.FlagUp == 0 || at.Flags&net.FlagMulticast == 0 {
			continue
		}
		conn, listenErr := net.ListenMulticastUDP("udp4", &at, group)
		if listenErr != nil {
			err = errors.Join(err, listenErr)
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		l.mu.Unlock()
	}
	if err != nil {
		l.log.Info("peers are not looked for in all local networks", "err", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns
}

// due returns the blobs that are to be asked for.
func (l *local) due(now time.Time) []repo.InfoHash {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []repo.InfoHash
	for hash, s := range l.wanted {
		if !now.Before(s.again) {
			s.again = now.Add(searchEvery)
			list = append(list, hash)
		}
	}
	return list
}

// say tells everybody that we take part in a swarm.
func (l *local) say(hash repo.InfoHash, group *net.UDPAddr) {
	text := fmt.Appendf(nil, "BT-SEARCH * HTTP/1.1\r\nHost: %s\r\nPort: %d\r\nInfohash: %s\r\ncookie: %s\r\n\r\n\r\n",
		localGroup, l.swarm.Addr().Port(), hash, l.cookie)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		if _, err := conn.WriteToUDP(text, group); err != nil {
			l.log.Debug("local network not asked", "err", err)
		}
	}
}

// read hears what others say until conn is closed.
func (l *local) read(conn *net.UDPConn, group *net.UDPAddr) {
	buffer := make([]byte, maxSearch)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(localTick)
			continue
		}
		port, hashes, cookie := parseSearch(buffer[:n])
		if cookie == l.cookie {
			continue
		}
		for _, hash := range hashes {
			l.heard(hash, netip.AddrPortFrom(from.Addr().Unmap(), port), group)
		}
	}
}

// heard takes note of who takes part in a swarm of ours, and says that we do.
func (l *local) heard(hash repo.InfoHash, at netip.AddrPort, group *net.UDPAddr) {
	if !l.swarm.gate.networks.allow(at.Addr()) {
		return
	}
	l.mu.Lock()
	s := l.wanted[hash]
	l.mu.Unlock()
	if s != nil {
		s.found([]netip.AddrPort{at})
	} else if !l.swarm.seeding(hash) {
		return
	}
	if l.mayAnswer(hash, time.Now()) {
		l.say(hash, group)
	}
}

// mayAnswer says yes once in a while for each blob.
func (l *local) mayAnswer(hash repo.InfoHash, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.said[hash]) < answerEvery {
		return false
	}
	for other, at := range l.said {
		if now.Sub(at) >= answerEvery {
			delete(l.said, other)
		}
	}
	if len(l.said) >= maxSaid {
		return false
	}
	l.said[hash] = now
	return true
}

// seeding reports whether a blob is seeded.
func (s *Swarm) seeding(hash repo.InfoHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seed := s.seeds[hash]
	return seed != nil && !seed.over
}

// parseSearch reads a datagram; no hashes if it is none of BEP 14.
func parseSearch(b []byte) (port uint16, hashes []repo.InfoHash, cookie string) {
	first, rest, _ := bytes.Cut(b, []byte("\r\n"))
	if string(first) != "BT-SEARCH * HTTP/1.1" {
		return 0, nil, ""
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\n" + string(rest))))
	if err != nil {
		return 0, nil, ""
	}
	n, err := strconv.ParseUint(request.Header.Get("Port"), 10, 16)
	if err != nil || n == 0 {
		return 0, nil, ""
	}
	for _, text := range request.Header.Values("Infohash") {
		hash, err := repo.ParseInfoHash(strings.ToLower(strings.TrimSpace(text)))
		if err == nil {
			hashes = append(hashes, hash)
		}
	}
	return uint16(n), hashes, request.Header.Get("Cookie")
}
