package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// errReplaced is why a session ends whose process is gone.
var errReplaced = errors.New("another session has begun")

// host is the host's end of a port.
type host struct {
	ctx  context.Context
	dial func(context.Context) (net.Conn, error)
	out  *frameWriter
	mux  *mux   // the session; nil if there is none
	last uint32 // the newest connection's number
	work []*mux // sessions that are over, but perhaps not yet done
}

// Serve answers the guest at the other end of port until that ends, or ctx
// does. Each connection that the guest opens is given one of dial's. It
// closes port, and returns nil at the end of the stream.
func Serve(ctx context.Context, port io.ReadWriteCloser, dial func(context.Context) (net.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = port.Close() }) // wakes who reads or writes
	h := &host{ctx: ctx, dial: dial, out: &frameWriter{out: port}}
	in := newFrameReader(port)
	err := error(nil)
	for err == nil {
		var f frame
		if f, err = in.next(); err == nil {
			h.take(f)
		}
	}
	h.end(errors.New("the port is closed"))
	if stop() {
		_ = port.Close() // nothing is written any more
	}
	for _, m := range h.work {
		m.work.Wait()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("cannot read from the guest: %w", err)
}

// take does what a frame asks for. It writes nothing itself, so that it never
// waits for a guest that must write before it reads.
func (h *host) take(f frame) {
	switch {
	case f.kind == hello && f.stream == 0:
		h.begin(f)
	case h.mux == nil || f.session != h.mux.name:
		// Of a process that is gone.
	case f.kind == bye:
		h.end(errors.New("the guest has ended the session"))
	case f.kind == open:
		h.open(f.stream)
	default:
		if err := h.mux.receive(f); err != nil {
			h.refuse(err)
		}
	}
}

func (h *host) begin(f frame) {
	h.end(errReplaced)
	h.mux, h.last = newMux(f.session, h.out), 0
	if len(f.payload) != 1 || f.payload[0] != Version {
		h.refuse(fmt.Errorf("the nest speaks version %d of the protocol", Version))
		return
	}
	m := h.mux
	m.work.Go(func() { _ = m.send(welcome, 0, []byte{Version}) }) // if it fails the session is over
}

// end ends the session, if there is one.
func (h *host) end(err error) {
	if h.mux == nil {
		return
	}
	h.mux.end(err)
	h.keep(h.mux)
	h.mux = nil
}

// keep has a session that is over waited for. What is still to be written is
// at most one frame, and whoever begins sessions reads: so only a guest that
// begins one after another and reads nothing is made to wait here.
func (h *host) keep(m *mux) {
	h.work = append(h.work, m)
	for len(h.work) > 4 {
		h.work[0].work.Wait()
		h.work = h.work[1:]
	}
}

// refuse ends the session of a guest that does not keep to the protocol, and
// tells it.
func (h *host) refuse(err error) {
	m := h.mux
	farewell := newMux(m.name, h.out)
	farewell.work.Go(func() { _ = farewell.send(bye, 0, []byte(err.Error())) }) // perhaps nobody reads it
	h.end(err)
	h.keep(farewell)
}

// open makes the connection that the guest asks for. Numbers only grow, so
// that none is taken for one that was before.
func (h *host) open(id uint32) {
	if id <= h.last {
		h.refuse(errors.New("connections have growing numbers"))
		return
	}
	h.last = id
	m := h.mux
	s, err := m.add(id)
	if err != nil {
		h.refuse(err)
		return
	}
	m.work.Go(func() {
		conn, err := h.dial(h.ctx)
		if err != nil {
			s.close(err.Error())
			return
		}
		s.start(conn)
	})
}
