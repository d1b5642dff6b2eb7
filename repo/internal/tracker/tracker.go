package tracker

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"stork/repo"
	"stork/repo/api"
)

// How long nests wait until they announce again: who wants something hears
// soon of who came after it; who has it was told of them anyway. An entry
// outlives one announce that got lost. Nobody need announce more often than
// every minInterval.
const (
	leechInterval = time.Minute
	seedInterval  = 10 * time.Minute
	minInterval   = 15 * time.Second
	grace         = 2 // intervals, and some seconds
)

// Limits bound what nests can make the tracker remember. Zero fields mean the
// default.
type Limits struct {
	Peers    int // entries of all swarms; default 524 288, about 100 MB
	PerSwarm int // entries of one swarm; default 512
	PerNest  int // entries of one nest; default 16 384
}

func (l Limits) withDefaults() Limits {
	if l.Peers <= 0 {
		l.Peers = 1 << 19
	}
	if l.PerSwarm <= 0 {
		l.PerSwarm = 512
	}
	if l.PerNest <= 0 {
		l.PerNest = 1 << 14
	}
	return l
}

// Options say what a tracker needs to know.
type Options struct {
	Root  repo.Digest    // the repository's first root
	Knows func(Key) bool // whether the operator has approved that nest

	// Info returns the info dictionary with that digest if the repository has
	// published it, else an error.
	Info func(repo.Digest) (*repo.Info, error)

	Limits Limits
	Now    func() time.Time // nil: time.Now
}

// Tracker is used by several goroutines.
type Tracker struct {
	options Options

	mu     sync.Mutex
	swarms map[repo.Digest]*swarm // by info dictionary, those with peers
	nests  map[Key]int            // entries of each
	peers  int                    // entries of all
	seeds  int                    // of them, those that have their blob
	stats  Stats
}

// Stats are what a tracker has in mind, and has done since it began.
type Stats struct {
	Swarms    int   `json:"swarms"`    // with at least one nest
	Seeds     int   `json:"seeds"`     // nests that have a swarm's blob, summed over swarms
	Leechers  int   `json:"leechers"`  // that want one
	Announces int64 `json:"announces"` // that were answered
	Refused   int64 `json:"refused"`   // that were not
}

// New returns a tracker that knows nobody yet.
func New(o Options) *Tracker {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	return &Tracker{options: o, swarms: map[repo.Digest]*swarm{}, nests: map[Key]int{}}
}

// ServeHTTP answers an announce; the request has the path values token and
// info. Refusals have status 200 too, for clients read no other.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := t.announce(r)
	if err != nil {
		body = refusal(err)
	}
	t.count(err)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // a client that went away is no error of ours
}

func (t *Tracker) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.stats.Refused++
	} else {
		t.stats.Announces++
	}
}

// announce checks what is cheap first, so that strangers cost little.
func (t *Tracker) announce(r *http.Request) ([]byte, error) {
	token := api.AnnounceToken(r.PathValue("token"))
	key, err := token.Key()
	if err != nil {
		return nil, err
	}
	if !t.options.Knows(key) {
		return nil, errors.New("this nest is not approved: see stork-repo nest add")
	}
	now := t.options.Now()
	if err := token.Verify(t.options.Root, now); err != nil {
		return nil, err
	}
	said, err := parseRequest(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	info, err := repo.ParseHex(r.PathValue("info"))
	if err != nil {
		return nil, errUnpublished
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, errors.New("it came from no address")
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), said.port)
	if err := t.published(info, said.hash); err != nil {
		return nil, err
	}
	return t.note(key, info, said, from, now)
}

var errUnpublished = errors.New("this repository has published no such package")

// published checks that the hash is that of a dictionary of this repository.
func (t *Tracker) published(info repo.Digest, hash repo.InfoHash) error {
	t.mu.Lock()
	s := t.swarms[info]
	t.mu.Unlock()
	if s != nil && s.hash == hash {
		return nil
	}
	dictionary, err := t.options.Info(info)
	if err != nil || dictionary.Swarm().InfoHash != hash {
		return errUnpublished
	}
	return nil
}

// note remembers what a nest has said and answers it.
func (t *Tracker) note(nest Key, info repo.Digest, said request, from netip.AddrPort, now time.Time) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.swarms[info]
	if s == nil {
		s = &swarm{hash: said.hash}
	}
	a := answer{interval: leechInterval}
	if said.left == 0 {
		a.interval = seedInterval
	}
	if said.event == stopped {
		t.drop(info, s, s.find(nest))
	} else {
		if err := t.enter(nest, info, s, said, from, now.Add(a.interval*grace+minInterval)); err != nil {
			return nil, err
		}
		if len(s.peers) > 0 {
			a.peers = s.choose(nest, from, said.left == 0, said.numWant, rand.IntN(len(s.peers)), now)
		}
	}
	a.seeds, a.leechers = s.seeds, len(s.peers)-s.seeds
	return a.encode(), nil
}

// enter notes a nest's entry. If the tracker is full the nest is told of
// others, and they not of it. t.mu is held.
func (t *Tracker) enter(nest Key, info repo.Digest, s *swarm, said request, from netip.AddrPort, expires time.Time) error {
	if i := s.find(nest); i >= 0 {
		s.peers[i].seen(from, expires)
		t.mark(s, s.peers[i], said.left == 0)
		return nil
	}
	if t.nests[nest] >= t.options.Limits.PerNest {
		return errors.New("this nest has announced too many packages")
	}
	if len(s.peers) >= t.options.Limits.PerSwarm {
		t.drop(info, s, rand.IntN(len(s.peers)))
	}
	if t.peers >= t.options.Limits.Peers {
		return nil
	}
	p := &peer{nest: nest}
	p.seen(from, expires)
	s.peers = append(s.peers, p)
	t.mark(s, p, said.left == 0)
	t.swarms[info] = s
	t.nests[nest]++
	t.peers++
	return nil
}

// mark notes whether a peer has its swarm's blob. t.mu is held.
func (t *Tracker) mark(s *swarm, p *peer, seed bool) {
	t.seeds -= s.seeds
	s.mark(p, seed)
	t.seeds += s.seeds
}

// drop forgets the entry at i of a swarm, if there is one. t.mu is held.
func (t *Tracker) drop(info repo.Digest, s *swarm, i int) {
	if i < 0 {
		return
	}
	nest := s.peers[i].nest
	t.mark(s, s.peers[i], false)
	s.remove(i)
	t.peers--
	if t.nests[nest]--; t.nests[nest] == 0 {
		delete(t.nests, nest)
	}
	if len(s.peers) == 0 {
		delete(t.swarms, info)
	}
}

// Expire forgets who has not announced for too long, and nests that are
// approved no more. It is to be called about once a minute.
func (t *Tracker) Expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.options.Now()
	gone := map[Key]bool{}
	for nest := range t.nests {
		if !t.options.Knows(nest) {
			gone[nest] = true
		}
	}
	for info, s := range t.swarms {
		for i := len(s.peers) - 1; i >= 0; i-- {
			if p := s.peers[i]; !now.Before(p.expires) || gone[p.nest] {
				t.drop(info, s, i)
			}
		}
	}
}

// Stats returns the counts.
func (t *Tracker) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	stats := t.stats
	stats.Swarms, stats.Seeds, stats.Leechers = len(t.swarms), t.seeds, t.peers-t.seeds
	return stats
}
