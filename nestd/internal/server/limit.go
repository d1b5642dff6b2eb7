package server

import (
	"net"
	"sync"
)

// limitedListener accepts a connection only when there is a place for it:
// whoever opens many waits in the socket's own queue. The first of several
// waits for its guest's turn, too.
type limitedListener struct {
	*net.UnixListener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
	turns  *turns // nil: of the operator, who does not wait

	mu   sync.Mutex
	open int // connections
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{UnixConn: conn, listener: l, endTurn: l.takeTurn()}, nil
}

// takeTurn waits for the guest's turn, if this is its only connection.
func (l *limitedListener) takeTurn() (end func()) {
	l.mu.Lock()
	l.open++
	first := l.open == 1
	l.mu.Unlock()
	if l.turns == nil || !first {
		return func() {}
	}
	return l.turns.take(l.closed)
}

func (l *limitedListener) drop() {
	l.mu.Lock()
	l.open--
	l.mu.Unlock()
	<-l.places
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.UnixListener.Close()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	*net.UnixConn
	listener *limitedListener
	endTurn  func()
	once     sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { c.endTurn(); c.listener.drop() })
	return c.UnixConn.Close()
}
