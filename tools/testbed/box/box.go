package box

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// box is the first process of a PID namespace.
type box struct {
	spec     Spec
	reaper   *reaper
	guests   *kitchen
	atBoot   int // mounts when it was ready
	released atomic.Bool
}

// serve answers requests until the process is killed.
func (b *box) serve(listener *net.UnixListener) error {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return fmt.Errorf("cannot accept: %w", err)
		}
		go b.answer(conn)
	}
}

func (b *box) answer(conn *net.UnixConn) {
	defer conn.Close()
	var req Request
	files, err := receive(conn, &req)
	defer closeAll(files)
	if err != nil {
		return // whoever asked has gone, or speaks something else
	}
	_ = send(conn, b.do(conn, &req, files), nil) // the same
}

func (b *box) do(conn *net.UnixConn, req *Request, files []*os.File) Answer {
	var pid int
	var err error
	switch {
	case req.Exec != nil:
		return b.exec(conn, req.Exec, files)
	case req.Machine != nil:
		pid, err = b.startMachine(req.Machine)
	case req.Guest != nil:
		pid, err = b.startGuest(req.Guest)
	case req.Link != nil:
		err = makeLink(req.Link)
	case req.Network != nil:
		err = setNetwork(req.Network)
	case req.Get != "":
		body, err := get(req.Get)
		if err != nil {
			return Answer{Error: err.Error()}
		}
		return Answer{Body: body}
	case req.Mounts:
		n, err := countMounts()
		if err != nil {
			return Answer{Error: err.Error()}
		}
		return Answer{Mounts: n, AtBoot: b.atBoot}
	case req.Release:
		b.released.Store(true)
	default:
		err = errors.New("cannot tell what is asked for")
	}
	if err != nil {
		return Answer{Error: err.Error()}
	}
	return Answer{PID: pid}
}

func countMounts() (int, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return 0, fmt.Errorf("cannot count mounts: %w", err)
	}
	return len(mounts), nil
}

// startMachine starts a box with a network of its own, or in this one's.
func (b *box) startMachine(m *Machine) (int, error) {
	spec := Spec{Kind: KindMachine, Name: m.Name, Rootfs: b.spec.Rootfs, MaskDir: b.spec.MaskDir,
		BaseDir: b.spec.BaseDir, NoUserNS: b.spec.NoUserNS, Rootless: b.spec.Rootless}
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if !m.Shared {
		flags |= unix.CLONE_NEWNET
		spec.Loopback = true
	}
	pid, err := b.launch(spec, m.Socket, &syscall.SysProcAttr{Cloneflags: flags})
	if err != nil {
		return 0, fmt.Errorf("cannot start machine %s: %w", m.Name, err)
	}
	return pid, nil
}

// launch starts a child box and waits until it is ready.
func (b *box) launch(spec Spec, socket string, attr *syscall.SysProcAttr) (int, error) {
	c, err := prepare(spec, socket)
	if err != nil {
		return 0, err
	}
	defer c.close()
	pid, err := b.fork(c, attr)
	if err != nil {
		return 0, err
	}
	return pid, waitReady(c, pid)
}

func (b *box) fork(c *child, attr *syscall.SysProcAttr) (int, error) {
	pid, _, err := b.reaper.start(func() (int, error) { return c.fork(attr) })
	return pid, err
}

func waitReady(c *child, pid int) error {
	err := c.wait()
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it has said that it failed
	}
	return err
}

// hostname is a name without what gethostname(2) may not return.
func hostname(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r <= ' ' {
			return '-'
		}
		return r
	}, name)
}
