package server

import (
	"net"
	"sync"
)

// limitedListener accepts a connection only when there is a place for it:
// whoever opens many waits in the socket's own queue.
type limitedListener struct {
	*net.UnixListener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
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
	return &limitedConn{UnixConn: conn, listener: l}, nil
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
	once     sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.listener.places })
	return c.UnixConn.Close()
}
