package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Session is one process's use of a port. Its methods may be called from
// several goroutines.
type Session struct {
	mux  *mux
	port io.ReadWriteCloser
	done chan struct{} // nobody reads the port any more

	opening sync.Mutex // guards last: connections are opened in the order of their numbers
	last    uint32
}

// Open begins a session over a port, which it takes over. random gives the
// session its name. The error is ctx's, or says why the host does not answer.
func Open(ctx context.Context, port io.ReadWriteCloser, random io.Reader) (*Session, error) {
	var name session
	if _, err := io.ReadFull(random, name[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot name the session: %w", err), port.Close())
	}
	s := &Session{mux: newMux(name, &frameWriter{out: port}), port: port, done: make(chan struct{})}
	welcomed := make(chan struct{})
	go s.read(welcomed)
	stop := context.AfterFunc(ctx, func() { s.abandon(ctx.Err()) })
	err := s.mux.send(hello, 0, []byte{Version})
	if err == nil {
		select {
		case <-welcomed:
		case <-s.mux.over:
			err = s.mux.reason()
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.abandon(err)
		<-s.done
		return nil, fmt.Errorf("cannot begin a session: %w", s.mux.reason())
	}
	return s, nil
}

// abandon ends the session without a word.
func (s *Session) abandon(err error) {
	s.mux.end(err)
	_ = s.port.Close() // wakes who reads or writes
}

// read takes what the host sends. It never writes, so that the host is never
// held up by what waits to be written here.
func (s *Session) read(welcomed chan<- struct{}) {
	defer close(s.done)
	in := newFrameReader(s.port)
	for {
		f, err := in.next()
		if errors.Is(err, io.EOF) {
			err = errors.New("nobody is at the other end of the port")
		}
		if err == nil && f.session == s.mux.name {
			welcomed, err = s.take(f, welcomed)
		}
		if err != nil {
			s.mux.end(err)
			return
		}
	}
}

// take does what a frame says.
func (s *Session) take(f frame, welcomed chan<- struct{}) (chan<- struct{}, error) {
	switch f.kind {
	case welcome:
		if len(f.payload) != 1 || f.payload[0] != Version || welcomed == nil {
			return nil, errors.New("the host does not keep to the protocol")
		}
		close(welcomed)
		return nil, nil
	case bye:
		return nil, fmt.Errorf("the host has ended the session: %s", f.payload[:min(len(f.payload), maxReason)])
	}
	return welcomed, s.mux.receive(f)
}

// Err says why the session is over; nil if it is not.
func (s *Session) Err() error { return s.mux.reason() }

// Dial opens a connection to the nest. If the nest can not be reached, that
// is known when the connection is read from. If the host reads nothing until
// ctx ends, the session is over.
func (s *Session) Dial(ctx context.Context) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { s.abandon(ctx.Err()) })
	defer stop()
	s.opening.Lock()
	defer s.opening.Unlock()
	s.last++
	st, err := s.mux.add(s.last)
	if err != nil {
		return nil, fmt.Errorf("cannot open a connection: %w", err)
	}
	if err := s.mux.send(open, s.last, nil); err != nil {
		return nil, fmt.Errorf("cannot open a connection: %w", err)
	}
	ours, theirs := net.Pipe()
	st.start(theirs)
	return &conn{Conn: ours, stream: st}, nil
}

// farewell is how long Close waits for a host that reads nothing.
const farewell = time.Second

// Close ends the session and closes the port.
func (s *Session) Close() error {
	stop := time.AfterFunc(farewell, func() { _ = s.port.Close() }) // wakes who writes
	_ = s.mux.send(bye, 0, nil)                                     // the next hello says it, too
	stop.Stop()
	s.abandon(net.ErrClosed)
	<-s.done
	s.mux.work.Wait()
	return nil
}

// conn is a connection whose end says why it has ended.
type conn struct {
	net.Conn
	stream *stream
}

// Read implements io.Reader.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.why(err)
}

// Write implements io.Writer.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.why(err)
}

// why says why the other end is gone, where that is known.
func (c *conn) why(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	m := c.stream.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case c.stream.reason != "":
		return errors.New(c.stream.reason)
	case m.err != nil:
		return m.err
	}
	return err
}
