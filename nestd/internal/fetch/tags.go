package fetch

import (
	"bytes"
	"sync"
)

// tagCache remembers small files with their ETags, so that asking for the
// timestamp every few seconds moves a header and no body.
type tagCache struct {
	mu      sync.Mutex
	entries map[string]tagged
}

type tagged struct {
	tag  string
	body []byte
}

// The cache's bounds: only what is small and asked for again and again is
// worth a place.
const (
	maxTagged    = 64 << 10
	maxTagEntry  = 256
	maxTagLength = 1024
)

func newTagCache() *tagCache { return &tagCache{entries: map[string]tagged{}} }

func (c *tagCache) get(address string) ([]byte, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[address]
	return e.body, e.tag
}

func (c *tagCache) put(address, tag string, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, address)
	if tag == "" || len(tag) > maxTagLength || len(body) > maxTagged {
		return
	}
	for old := range c.entries {
		if len(c.entries) < maxTagEntry {
			break
		}
		delete(c.entries, old)
	}
	c.entries[address] = tagged{tag, bytes.Clone(body)}
}
