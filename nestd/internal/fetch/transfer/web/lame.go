package web

import (
	"sync"
	"time"
)

// lameFor is how long a host that could not be reached is asked last.
const lameFor = 30 * time.Second

// lame are hosts that could not be reached, and until when others are asked
// first: else everything that is small would wait for each of them.
type lame struct {
	mu    sync.Mutex
	hosts map[string]time.Time
}

// note says whether a host could be reached.
func (l *lame) note(host string, could bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if could {
		delete(l.hosts, host)
		return
	}
	now := time.Now()
	for other, until := range l.hosts { // bounded by the hosts of half a minute
		if now.After(until) {
			delete(l.hosts, other)
		}
	}
	if l.hosts == nil {
		l.hosts = map[string]time.Time{}
	}
	l.hosts[host] = now.Add(lameFor)
}

// Lame reports whether the server of an address could not be reached of late.
func (c *Client) Lame(address string) bool {
	c.lame.mu.Lock()
	defer c.lame.mu.Unlock()
	until, ok := c.lame.hosts[hostOf(address)]
	return ok && time.Now().Before(until)
}
