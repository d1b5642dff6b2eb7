package swarm

import (
	"net/netip"
	"sync"

	"github.com/anacrolix/torrent"
)

// maxKnown is how many addresses of peers a download remembers.
const maxKnown = 500

// peers are the addresses where a download may find peers.
type peers struct {
	mu    sync.Mutex
	list  []netip.AddrPort
	known map[netip.AddrPort]bool
	added bool
}

func newPeers(first []netip.AddrPort) *peers {
	p := &peers{known: map[netip.AddrPort]bool{}}
	p.add(first)
	return p
}

// add remembers addresses; of too many it forgets those that came first.
func (p *peers) add(list []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range list {
		if p.known[at] {
			continue
		}
		p.known[at] = true
		p.added = true
		if p.list = append(p.list, at); len(p.list) > maxKnown {
			delete(p.known, p.list[0])
			p.list = p.list[1:]
		}
	}
}

// fresh reports whether something was added since it was last asked.
func (p *peers) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := p.added
	p.added = false
	return added
}

// infos returns those that are allowed and not there already.
func (p *peers) infos(n networks, there map[netip.AddrPort]bool) []torrent.PeerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return peerInfos(p.list, n, there)
}
