package tracker

import (
	"net/netip"
	"slices"
	"time"

	"stork/repo"
)

// Key is a nest's public key.
type Key [32]byte

// swarm is who has a blob or wants it.
type swarm struct {
	hash  repo.InfoHash
	peers []*peer // in no order
	seeds int     // of them, those that have it
}

// peer is what a nest has announced in one swarm.
type peer struct {
	nest    Key
	seed    bool
	expires time.Time

	// A nest with both announces over both: each is what the last announce
	// over it came from. The zero address: none.
	four, six netip.AddrPort
}

func (s *swarm) find(nest Key) int {
	return slices.IndexFunc(s.peers, func(p *peer) bool { return p.nest == nest })
}

// remove forgets the peer at i, which is marked as none that has the blob.
func (s *swarm) remove(i int) {
	last := len(s.peers) - 1
	s.peers[i], s.peers[last] = s.peers[last], nil
	s.peers = s.peers[:last]
}

// choose returns addresses of at most n peers, from the one at first on, but
// not the announcer's own. Who has everything has no use for others who do,
// and who is not on this host none for an address that means this host.
func (s *swarm) choose(nest Key, from netip.AddrPort, seed bool, n, first int, now time.Time) []netip.AddrPort {
	var chosen []netip.AddrPort
	for i := 0; i < len(s.peers) && n > 0; i++ {
		p := s.peers[(first+i)%len(s.peers)]
		if p.nest == nest || seed && p.seed || !now.Before(p.expires) {
			continue
		}
		before := len(chosen)
		for _, at := range []netip.AddrPort{p.four, p.six} {
			if at.IsValid() && (!at.Addr().IsLoopback() || from.Addr().IsLoopback()) {
				chosen = append(chosen, at)
			}
		}
		if len(chosen) > before {
			n--
		}
	}
	return chosen
}

// mark notes whether a peer has the blob.
func (s *swarm) mark(p *peer, seed bool) {
	if p.seed != seed {
		if p.seed = seed; seed {
			s.seeds++
		} else {
			s.seeds--
		}
	}
}

// seen notes where a nest announced from.
func (p *peer) seen(from netip.AddrPort, expires time.Time) {
	if from.Addr().Is4() {
		p.four = from
	} else {
		p.six = from
	}
	p.expires = expires
}
