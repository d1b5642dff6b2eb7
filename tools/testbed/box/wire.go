package box

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one request or answer; arguments of a command are most
// of it.
const maxMessage = 4 << 20

// maxFiles is how many descriptors go with a request.
const maxFiles = 8

// Request asks a box for one thing: exactly one of its pointers is set.
type Request struct {
	Exec    *Exec    `json:",omitempty"`
	Machine *Machine `json:",omitempty"`
	Guest   *Guest   `json:",omitempty"`
	Link    *Link    `json:",omitempty"`
	Network *Network `json:",omitempty"`
	Get     string   `json:",omitempty"` // read an address over the box's network
	Mounts  bool     `json:",omitempty"` // count the box's mounts
	Release bool     `json:",omitempty"` // live on when the starter ends
}

// Exec runs a program with three descriptors, its standard streams. Unless it
// is detached, the answer comes when it ends, and it ends when the asking
// connection does.
type Exec struct {
	Args   []string
	Env    []string // all of it
	Dir    string
	UID    int
	GID    int
	Detach bool
}

// Machine starts a box like this one beside it, with a network of its own.
type Machine struct {
	Name   string
	Socket string
	Shared bool // shares this box's network instead
}

// Guest starts a guest's box.
type Guest struct {
	Name   string
	Socket string
	Upper  string // its own files
	Work   string // overlayfs's
	Nest   string // directory to bind at /run/stork; empty: none
}

// Link makes a pair of interfaces: Name in the hub, eth0 in the network
// namespace of the process PID, which is a child of the hub.
type Link struct {
	Name    string
	PID     int
	Address netip.Prefix
	Rate    uint32 // bytes a second; 0: no limit
}

// Network sets up eth0.
type Network struct {
	Address netip.Prefix
	Gateway netip.Addr
	Rate    uint32
}

// Answer is what a box says to a request.
type Answer struct {
	Error   string // why it failed; nothing else is set
	Status  int    // of a command
	Elapsed int64  // nanoseconds that it ran
	MaxRSS  int64  // bytes that it had resident at most
	PID     int    // of a started box or detached command, in this box
	Body    []byte // of what was got
	Mounts  int    // of the box's own namespace
	AtBoot  int    // the same when it started
}

// send writes one message with descriptors.
func send(conn *net.UnixConn, message any, files []*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("cannot encode a message: %w", err)
	}
	if len(body) > maxMessage {
		return fmt.Errorf("cannot send a message of %d bytes: the limit is %d", len(body), maxMessage)
	}
	data := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix(data, rights, nil)
	if err != nil || n == len(data) {
		return err // an empty write could meet a peer that has answered and gone
	}
	_, err = conn.Write(data[n:])
	return err
}

// receive reads one message and the descriptors that came with it, which are
// the caller's also on error.
func receive(conn *net.UnixConn, message any) (files []*os.File, err error) {
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := conn.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if files, err = rightsIn(oob[:oobn]); err != nil {
		return files, err
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return files, fmt.Errorf("cannot read a message of %d bytes: the limit is %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(conn, body); err != nil {
		return files, err
	}
	if err := json.Unmarshal(body, message); err != nil {
		return files, fmt.Errorf("cannot decode a message: %w", err)
	}
	return files, nil
}

func rightsIn(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("cannot read descriptors: %w", err)
	}
	for _, m := range messages {
		fds, parseErr := unix.ParseUnixRights(&m)
		if parseErr != nil {
			err = errors.Join(err, parseErr)
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // our copy of what somebody else writes
	}
}
