package web

import (
	"context"
	"net/url"
	"strings"
	"sync"

	"stork/nestd/internal/fetch/transfer"
)

// Options say how a [Method] works.
type Options struct {
	Name   string // of the method, for ledgers
	Client *Client

	// Places returns the addresses at which a blob may be, best first; nil:
	// those of the order that are http or https.
	Places func(transfer.Order) []string

	Connections int   // for a large blob; default 4
	Large       int64 // bytes from which a blob is large; default 1 MiB
}

// Method gets blobs from web servers.
type Method struct {
	options Options
	buffers sync.Pool
}

// New returns a method.
func New(o Options) *Method {
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.Large == 0 {
		o.Large = 1 << 20
	}
	if o.Places == nil {
		o.Places = webPlaces
	}
	m := &Method{options: o}
	m.buffers.New = func() any { return new([bufferSize]byte) }
	return m
}

// bufferSize is how much is read before it is written, in bytes.
const bufferSize = 64 << 10

// Name implements [transfer.Method].
func (m *Method) Name() string { return m.options.Name }

// Fetch implements [transfer.Method].
func (m *Method) Fetch(ctx context.Context, job *transfer.Job) error {
	f := &fetch{method: m, job: job, wake: make(chan struct{}, 1), answered: make(chan struct{})}
	for _, address := range m.order(m.options.Places(job.Order)) {
		f.servers = append(f.servers, &server{
			address: address, source: transfer.Source{Method: m.options.Name, Address: hostOf(address)},
		})
	}
	return f.run(ctx)
}

// order puts those last that could not be reached of late.
func (m *Method) order(places []string) []string {
	var first, last []string
	for _, place := range places {
		if m.options.Client.Lame(place) {
			last = append(last, place)
		} else {
			first = append(first, place)
		}
	}
	return append(first, last...)
}

// webPlaces are the places of an order that are web servers'.
func webPlaces(order transfer.Order) []string {
	var places []string
	for _, place := range order.Places {
		if strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://") {
			places = append(places, place)
		}
	}
	return places
}

// hostOf is what ledgers call a server.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}
