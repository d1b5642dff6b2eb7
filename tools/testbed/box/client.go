package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Client asks one box. It may be used from several goroutines.
type Client struct {
	Socket string
}

// Do sends a request with descriptors and waits for the answer. When ctx
// ends, so do the connection and the command that was asked for. Each number
// that comes over signals is sent to the command.
func (c Client) Do(ctx context.Context, req Request, files []*os.File, signals <-chan os.Signal) (Answer, error) {
	var dialer net.Dialer
	path, release, err := shortPath(c.Socket)
	if err != nil {
		return Answer{}, fmt.Errorf("cannot reach the box: %w", err)
	}
	dialed, err := dialer.DialContext(ctx, "unix", path)
	release()
	if err != nil {
		return Answer{}, fmt.Errorf("cannot reach the box: %w", err)
	}
	conn := dialed.(*net.UnixConn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := send(conn, req, files); err != nil {
		return Answer{}, errors.Join(ctx.Err(), fmt.Errorf("cannot ask the box: %w", err))
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				if n, ok := s.(syscall.Signal); ok {
					_, _ = conn.Write([]byte{byte(n)}) // it may just have ended
				}
			case <-done:
				return
			}
		}
	}()
	var answer Answer
	passed, err := receive(conn, &answer)
	closeAll(passed)
	switch {
	case ctx.Err() != nil:
		return Answer{}, ctx.Err()
	case errors.Is(err, io.EOF):
		return Answer{}, errors.New("cannot ask the box: it has ended")
	case err != nil:
		return Answer{}, fmt.Errorf("cannot ask the box: %w", err)
	case answer.Error != "":
		return Answer{}, errors.New(answer.Error)
	}
	return answer, nil
}

// Hub is a started hub, which lives until the process that started it ends,
// or for good after a Release.
type Hub struct {
	PID  int
	life *os.File
}

// Close lets go of the hub: unless it has been released, it ends.
func (h *Hub) Close() error { return h.life.Close() }

// Host is what the hub gets of the system that it runs on.
type Host struct {
	Socket string
	Log    *os.File // standard error of the hub and all in it
	Lock   *os.File // held until the hub has ended
}

// Start starts the hub of a testbed. registered is called with the process's
// number as soon as there is one.
func Start(spec Spec, host Host, registered func(pid int) error) (*Hub, error) {
	spec.Kind, spec.Loopback = KindHub, true
	c, err := prepare(spec, host.Socket)
	if err != nil {
		return nil, err
	}
	defer c.close()
	life, mine, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	c.life, c.lock, c.log = life, host.Lock, host.Log
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
		unix.CLONE_NEWIPC | unix.CLONE_NEWNET, Setsid: true}
	if spec.Rootless {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	pid, err := c.fork(attr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make namespaces: %w", err), mine.Close())
	}
	hub := &Hub{PID: pid, life: mine}
	err = registered(pid)
	if err == nil {
		err = c.wait()
	}
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil) // says that it was killed
		return nil, errors.Join(err, hub.Close())
	}
	return hub, nil
}
