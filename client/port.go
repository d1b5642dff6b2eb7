package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/channel"
)

// How long a guest waits for its port: a machine that starts may have its
// files before the driver of the port. And how often it looks whether another
// process has given the port back, and when it says that it waits.
const (
	portPatience = 5 * time.Second
	portPoll     = 20 * time.Millisecond
	portNotice   = time.Second
	helloTimeout = 10 * time.Second
)

// guestDialer makes connections to the nest from a guest: by its socket, or,
// where the guest's directory is one of another kernel, by the port that this
// has given to the machine.
type guestDialer struct {
	dir     string
	ports   string       // directory in which the kernel lists ports
	devices string       // and where their devices are
	waiting func(string) // told, once, what it waits for; or nil
	told    bool         // it was

	mu      sync.Mutex // guards what follows, and told
	session *channel.Session
}

func newGuestDialer(dir string) *guestDialer {
	return &guestDialer{dir: dir, ports: "/sys/class/virtio-ports", devices: "/dev"}
}

// dial connects. On a file system of virtual machines the socket is there to
// be seen, but nobody in this kernel listens on it.
func (d *guestDialer) dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil {
		conn, err := dialUnix(ctx, filepath.Join(d.dir, api.SocketName))
		if !errors.Is(err, syscall.ECONNREFUSED) || !sharedByHost(d.dir) {
			return conn, err
		}
	}
	if d.session != nil && d.session.Err() != nil {
		_ = d.session.Close() // it is over: nothing is left to say
		d.session = nil
	}
	if d.session == nil {
		if err := d.begin(ctx); err != nil {
			return nil, err
		}
	}
	return d.session.Dial(ctx)
}

func dialUnix(ctx context.Context, socket string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
}

// sharedByHost says whether a directory is on virtiofs.
func sharedByHost(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// begin begins a session over the port.
func (d *guestDialer) begin(ctx context.Context) error {
	port, err := d.open(ctx)
	if err != nil {
		return fmt.Errorf("cannot open the machine's port %s: %w", api.PortName, err)
	}
	hello, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	session, err := channel.Open(hello, port, rand.Reader)
	switch {
	case err == nil:
		d.session = session
		return nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("nobody answers at the machine's port %s: 'nestd guest vm' must run on the host", api.PortName)
	}
	return err
}

// open opens the port. The kernel gives it to one process at a time.
func (d *guestDialer) open(ctx context.Context) (*os.File, error) {
	for began := time.Now(); ; {
		path, err := d.find()
		var port *os.File
		if err == nil {
			port, err = os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		}
		waited := time.Since(began)
		switch {
		case err == nil:
			return port, nil
		case errors.Is(err, unix.EBUSY):
			if waited > portNotice {
				d.tell("waiting for another process, which has the machine's port to the nest")
			}
		case !errors.Is(err, os.ErrNotExist) || waited > portPatience:
			return nil, err
		}
		select {
		case <-time.After(portPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *guestDialer) tell(what string) {
	if !d.told && d.waiting != nil {
		d.waiting(what)
	}
	d.told = true
}

// find looks for the port by its name, as the kernel lists it: udev's links
// in /dev/virtio-ports are not everywhere.
func (d *guestDialer) find() (string, error) {
	entries, err := os.ReadDir(d.ports)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		name, err := os.ReadFile(filepath.Join(d.ports, entry.Name(), "name"))
		if err == nil && strings.TrimSuffix(string(name), "\n") == api.PortName {
			return filepath.Join(d.devices, entry.Name()), nil
		}
	}
	return "", fmt.Errorf("the machine has no such port: %w", os.ErrNotExist)
}

// close ends the session, so that the next process has the port at once.
func (d *guestDialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != nil {
		_ = d.session.Close() // nothing is in progress in it
		d.session = nil
	}
}
