package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// dialTimeout bounds how long a connection may take: a nest that is alive
// accepts at once.
const dialTimeout = 5 * time.Second

// conns are connections to one nest. A request is written and its
// answer read by the goroutine that asks: in a program that lives for
// milliseconds the three goroutines of an http.Transport, and their waking
// each other, cost more than the nest's answers do.
type conns struct {
	socket string // for messages
	dial   func(context.Context) (net.Conn, error)

	mu   sync.Mutex // guards idle
	idle []*conn
}

// conn is one connection, used by one request at a time.
type conn struct {
	net.Conn
	reader *bufio.Reader
	used   bool // it has served a request
}

// roundTrip sends a request and returns the head of the answer; its body must
// be closed. When ctx ends, reading and writing fail. The nest closes
// connections that lie idle, and may do so just when one is taken up again:
// then the request, which all routes take twice as well as once, goes over
// another one.
func (c *conns) roundTrip(ctx context.Context, build func() (*http.Request, error)) (*http.Response, error) {
	for {
		request, err := build()
		if err != nil {
			return nil, err
		}
		k, err := c.take(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := c.exchange(ctx, k, request)
		if err == nil || !k.used || ctx.Err() != nil {
			return answer, err
		}
	}
}

func (c *conns) exchange(ctx context.Context, k *conn, request *http.Request) (*http.Response, error) {
	// A deadline in the past wakes whoever reads or writes.
	stop := context.AfterFunc(ctx, func() { _ = k.SetDeadline(time.Unix(1, 0)) })
	err := request.Write(k)
	var answer *http.Response
	if err == nil {
		answer, err = http.ReadResponse(k.reader, request)
	}
	if err != nil {
		stop()
		return nil, errors.Join(err, k.Close())
	}
	answer.Body = &body{ReadCloser: answer.Body, conns: c, conn: k, stop: stop, close: answer.Close}
	return answer, nil
}

// take returns an idle connection, or a new one.
func (c *conns) take(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		k := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return k, nil
	}
	c.mu.Unlock()
	raw, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: raw, reader: bufio.NewReader(raw)}, nil
}

func (c *conns) give(k *conn) {
	k.used = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, k)
}

// close closes the idle connections.
func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.idle {
		_ = k.Close() // nothing is in progress on it
	}
	c.idle = nil
}

// body is an answer's body. Closed after its end, it gives the connection
// back; before, the connection is of no further use.
type body struct {
	io.ReadCloser
	conns *conns
	conn  *conn
	stop  func() bool
	close bool // the nest closes the connection after this answer
	ended bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.conn == nil {
		return nil
	}
	k := b.conn
	b.conn = nil
	if !b.stop() || !b.ended || b.close {
		return k.Close()
	}
	b.conns.give(k)
	return nil
}
