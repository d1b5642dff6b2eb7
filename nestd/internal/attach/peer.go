package attach

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a unix connection, held by pidfd,
// so that a process which takes over its number later is never mistaken for
// it. Its methods may be called from several goroutines, Close once.
type Peer struct {
	pidfd *os.File
	uid   uint32 // effective when it connected, in the nest's user namespace
}

// PeerOf returns the process that connected. It must be closed. The error
// wraps [ErrNotAttached] if that process has ended, and [ErrUnsupported] if
// the kernel has no SO_PEERPIDFD.
func PeerOf(conn *net.UnixConn) (*Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot identify the peer: %w", err)
	}
	var fd int
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(s uintptr) {
		if cred, optErr = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED); optErr == nil {
			fd, optErr = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		}
	}); err != nil {
		return nil, fmt.Errorf("cannot identify the peer: %w", err)
	}
	switch {
	case errors.Is(optErr, unix.ENOPROTOOPT):
		return nil, fmt.Errorf("cannot identify the peer: no SO_PEERPIDFD: %w", ErrUnsupported)
	case errors.Is(optErr, unix.ESRCH), errors.Is(optErr, unix.EINVAL), errors.Is(optErr, unix.ENODATA):
		return nil, fmt.Errorf("cannot identify the peer: the process is gone: %w", ErrNotAttached)
	case optErr != nil:
		return nil, fmt.Errorf("cannot identify the peer: %w", optErr)
	}
	return &Peer{pidfd: os.NewFile(uintptr(fd), "pidfd"), uid: cred.Uid}, nil
}

// Close releases the pidfd.
func (p *Peer) Close() error { return p.pidfd.Close() }

// dup returns a second handle on the same process, for work that may outlive
// the caller's.
func (p *Peer) dup() (*Peer, error) {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot hold the peer: %w", err)
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, fmt.Errorf("cannot hold the peer: %w", err)
	}
	if dupErr != nil {
		return nil, fmt.Errorf("cannot hold the peer: %w", dupErr)
	}
	return &Peer{pidfd: os.NewFile(uintptr(fd), "pidfd"), uid: p.uid}, nil
}

// alive returns an error that wraps ErrNotAttached if the process has ended.
// What was opened below /proc/PID before a call that returns nil belongs to
// the peer and to nobody else.
func (p *Peer) alive() error {
	if err := unix.PidfdSendSignal(int(p.pidfd.Fd()), 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the process is gone (%w): %w", err, ErrNotAttached)
	}
	return nil
}

// pid returns the process's number in the nest's PID namespace.
func (p *Peer) pid() (int, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(p.pidfd.Fd())))
	if err != nil {
		return 0, fmt.Errorf("cannot read the peer's number: %w", err)
	}
	for line := range bytes.Lines(info) {
		value, found := bytes.CutPrefix(line, []byte("Pid:"))
		if !found {
			continue
		}
		pid, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil {
			return 0, fmt.Errorf("cannot read the peer's number: %w", err)
		}
		switch {
		case pid > 0:
			return pid, nil
		case pid == 0:
			return 0, fmt.Errorf("the process is outside of the nest's PID namespace: %w", ErrNotEntitled)
		}
		return 0, fmt.Errorf("the process is gone: %w", ErrNotAttached)
	}
	return 0, fmt.Errorf("cannot read the peer's number: the kernel does not say: %w", ErrUnsupported)
}
