package peer

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// Name is what ledgers and the configuration call this method.
const Name = "peer"

// patience is what a peer finds: it is near and has the file, or is not worth
// waiting for.
var patience = web.Tuning{Stall: 3 * time.Second, MinBytes: 16 << 10, Tries: 2, Backoff: 50 * time.Millisecond}

// asked is how many peers are asked for a file.
const asked = 4

// Client asks peers.
type Client struct {
	config Config
	web    *web.Client
}

// NewClient returns a client for a configuration that was checked. A zero
// Tuning stands for the patience that peers find.
func NewClient(c Config, t web.Tuning) (*Client, error) {
	if t == (web.Tuning{}) {
		t = patience
	}
	client, err := web.NewClient(web.ClientOptions{Tuning: t, Allow: c.allow, NoRedirects: true})
	if err != nil {
		return nil, err
	}
	return &Client{config: c, web: client}, nil
}

// Method returns the transfer method.
func (c *Client) Method() *web.Method {
	return web.New(web.Options{Name: Name, Client: c.web, Connections: 2, Places: func(o transfer.Order) []string {
		return c.places(o.Object.Digest)
	}})
}

// places are the addresses of a file at the peers that are asked for it. Each
// file has its own order of peers, the same on all nests, so that the work is
// divided, and what a peer lacks is fetched by one more that will have it.
func (c *Client) places(d repo.Digest) []string {
	type ranked struct {
		rank    uint64
		address string
	}
	var all []ranked
	for _, address := range c.config.Peers {
		sum := repo.DigestOf(append(d[:], address...))
		all = append(all, ranked{binary.BigEndian.Uint64(sum[:]), address})
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	places := make([]string, 0, asked)
	for _, r := range all {
		place := "http://" + r.address + path(d)
		if len(places) < asked && !c.web.Lame(place) {
			places = append(places, place)
		}
	}
	return places
}

// Document asks peers for a small file of at most max bytes. ok is false if
// none that was asked has it.
func (c *Client) Document(ctx context.Context, d repo.Digest, max int64) (text []byte, ok bool) {
	for _, place := range c.places(d) {
		if text, err := c.web.Document(ctx, place, repo.Object{Digest: d, Size: max}); err == nil {
			return text, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
	}
	return nil, false
}
