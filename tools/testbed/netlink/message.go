package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// message is a request under construction (netlink(7)).
type message struct {
	kind  uint16
	flags uint16
	body  []byte
}

// raw appends bytes, padded to four.
func (m *message) raw(data []byte) {
	m.body = append(m.body, data...)
	for len(m.body)%unix.NLMSG_ALIGNTO != 0 {
		m.body = append(m.body, 0)
	}
}

// attr appends an attribute.
func (m *message) attr(kind uint16, data []byte) {
	head := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(data)))
	head = binary.NativeEndian.AppendUint16(head, kind)
	m.raw(append(head, data...))
}

func (m *message) attr32(kind uint16, value uint32) {
	m.attr(kind, binary.NativeEndian.AppendUint32(nil, value))
}

func (m *message) attrString(kind uint16, value string) {
	m.attr(kind, append([]byte(value), 0))
}

// nest appends an attribute that holds what fill appends.
func (m *message) nest(kind uint16, fill func()) {
	start := len(m.body)
	m.attr(kind, nil)
	fill()
	binary.NativeEndian.PutUint16(m.body[start:], uint16(len(m.body)-start))
}

// Conn is a netlink socket in one network namespace. It is not safe for
// concurrent use.
type Conn struct {
	fd       int
	sequence uint32
}

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("cannot open netlink: %w", errors.Join(err, unix.Close(fd)))
	}
	return &Conn{fd: fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// do sends a request and waits for its acknowledgement.
func (c *Conn) do(m *message) error {
	c.sequence++
	out := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(m.body)))
	out = binary.NativeEndian.AppendUint16(out, m.kind)
	out = binary.NativeEndian.AppendUint16(out, m.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	out = binary.NativeEndian.AppendUint32(out, c.sequence)
	out = binary.NativeEndian.AppendUint32(out, 0)
	out = append(out, m.body...)
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	in := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(c.fd, in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if n < unix.SizeofNlMsghdr+4 {
			return fmt.Errorf("short netlink message of %d bytes", n)
		}
		kind := binary.NativeEndian.Uint16(in[4:])
		if binary.NativeEndian.Uint32(in[8:]) != c.sequence || kind != unix.NLMSG_ERROR {
			continue // a notice, or the answer to something else
		}
		if code := int32(binary.NativeEndian.Uint32(in[unix.SizeofNlMsghdr:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}
