package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
)

// window is how many bytes one end may send on a connection before the other
// has taken them, and maxStreams how many connections a session may have at
// once: as many as the nest gives to a guest.
const (
	window     = 64 << 10
	maxStreams = 128
)

// maxReason is how many bytes of a reason are kept.
const maxReason = 512

var errOver = errors.New("the session is over")

// mux is one session, seen from either end: its connections, each bound to a
// [net.Conn] of this end.
type mux struct {
	name session
	out  *frameWriter
	over chan struct{} // closed when the session is
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows, and what changes in streams
	streams map[uint32]*stream
	err     error // why it is over
}

// stream is one connection of a session.
type stream struct {
	mux  *mux
	id   uint32
	more *sync.Cond // one of the following has changed

	conn       net.Conn // of this end; nil until there is one
	received   []byte   // not yet written to conn
	mayReceive int      // so many bytes more, before credit is given
	maySend    int
	closed     bool   // this end reads and writes no more
	said       bool   // and has told the other
	peerClosed bool   // the other has
	reason     string // that it gave
}

func newMux(name session, out *frameWriter) *mux {
	return &mux{name: name, out: out, over: make(chan struct{}), streams: map[uint32]*stream{}}
}

// end ends the session and all its connections. It does not wait: see work.
func (m *mux) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	close(m.over)
	for _, s := range m.streams {
		if s.conn != nil {
			_ = s.conn.Close() // its pumps find out
		}
		s.more.Broadcast()
	}
}

// reason says why the session is over; nil if it is not.
func (m *mux) reason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// send writes a frame of this session; if that fails, the session is over.
func (m *mux) send(k kind, stream uint32, payload []byte) error {
	err := m.out.write(m.over, frame{m.name, k, stream, payload})
	if err != nil && !errors.Is(err, errOver) {
		m.end(err)
	}
	return err
}

// add makes a connection. It fails if there are too many.
func (m *mux) add(id uint32) (*stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	if len(m.streams) >= maxStreams {
		return nil, fmt.Errorf("over %d connections at once", maxStreams)
	}
	s := &stream{mux: m, id: id, more: sync.NewCond(&m.mu), mayReceive: window, maySend: window}
	m.streams[id] = s
	return s, nil
}

// start binds a connection to one of this end, which it takes over.
func (s *stream) start(conn net.Conn) {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	if s.mux.err != nil {
		_ = conn.Close() // nothing was written to it
		return
	}
	s.conn = conn
	s.mux.work.Go(s.fromConn)
	s.mux.work.Go(s.toConn)
}

// fromConn sends what this end writes, as far as the peer takes it.
func (s *stream) fromConn() {
	buf := make([]byte, maxPayload)
	for {
		room := s.awaitRoom()
		if room == 0 {
			return
		}
		n, err := s.conn.Read(buf[:min(room, len(buf))])
		if n > 0 {
			s.mux.mu.Lock()
			s.maySend -= n
			s.mux.mu.Unlock()
			if s.mux.send(data, s.id, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			s.close("")
			return
		}
	}
}

// awaitRoom returns how much may be sent, 0 if nothing more is to be.
func (s *stream) awaitRoom() int {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	for s.maySend == 0 && !s.closed && !s.peerClosed && s.mux.err == nil {
		s.more.Wait()
	}
	if s.closed || s.peerClosed || s.mux.err != nil {
		return 0
	}
	return s.maySend
}

// toConn gives this end what the peer has sent, and the peer credit for it.
func (s *stream) toConn() {
	defer s.conn.Close() // wakes fromConn, which says so to the peer
	for {
		b := s.awaitReceived()
		if b == nil {
			s.close("")
			return
		}
		if _, err := s.conn.Write(b); err != nil {
			s.close("")
			return
		}
		s.mux.mu.Lock()
		s.mayReceive += len(b)
		silent := s.peerClosed
		s.mux.mu.Unlock()
		if !silent && s.mux.send(credit, s.id, binary.BigEndian.AppendUint32(nil, uint32(len(b)))) != nil {
			return
		}
	}
}

// awaitReceived returns what has come, nil if nothing more is to come.
func (s *stream) awaitReceived() []byte {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	for len(s.received) == 0 && !s.closed && !s.peerClosed && s.mux.err == nil {
		s.more.Wait()
	}
	if len(s.received) == 0 || s.closed || s.mux.err != nil {
		return nil
	}
	b := s.received
	s.received = nil
	return b
}

// receive takes a frame about a connection. What it returns ends the session:
// the peer has not kept to the protocol.
func (m *mux) receive(f frame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.streams[f.stream]
	if s == nil {
		return nil // it has ended here, which the peer may not know yet
	}
	defer s.more.Broadcast()
	switch f.kind {
	case data:
		if len(f.payload) > s.mayReceive || s.peerClosed {
			return errors.New("a connection has more data than it may")
		}
		s.mayReceive -= len(f.payload)
		if !s.closed {
			s.received = append(s.received, f.payload...)
		}
	case credit:
		var n uint32
		if len(f.payload) == 4 {
			n = binary.BigEndian.Uint32(f.payload)
		}
		if n < 1 || n > uint32(window-s.maySend) {
			return errors.New("a connection is given credit that it has not used")
		}
		s.maySend += int(n)
	case closing:
		s.peerClosed = true
		s.reason = string(f.payload[:min(len(f.payload), maxReason)])
		s.dropIfDone()
	default:
		return fmt.Errorf("frames of kind %d do not belong here", f.kind)
	}
	return nil
}

// close says, once, that this end reads and writes no more.
func (s *stream) close(reason string) {
	s.mux.mu.Lock()
	said := s.closed
	s.closed, s.received = true, nil
	if !said {
		s.more.Broadcast()
	}
	s.mux.mu.Unlock()
	if said {
		return
	}
	// If the session is over, there is nobody to tell.
	_ = s.mux.send(closing, s.id, []byte(reason))
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	s.said = true
	s.dropIfDone()
}

// dropIfDone forgets the connection when both ends have said that it is
// closed. The lock is held.
func (s *stream) dropIfDone() {
	if s.said && s.peerClosed {
		delete(s.mux.streams, s.id)
	}
}
