package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// childArgument marks a process that is a box; its specification and its
// socket follow as descriptors.
const childArgument = "stork-testbed-box"

// Descriptors of a starting box.
const (
	fdSpec   = 3 // Spec, to be read to its end
	fdReady  = 4 // closed when ready; an error's text before that
	fdSocket = 5 // where it listens
	fdLife   = 6 // the hub only: ends when the starter does
	fdLock   = 7 // the hub only: a lock on the testbed's folder
)

// Kind is what a box is.
type Kind string

// The kinds of box.
const (
	KindHub     Kind = "hub"
	KindMachine Kind = "machine"
	KindGuest   Kind = "guest"
)

// Spec says what a box is to be.
type Spec struct {
	Kind     Kind
	Name     string
	Rootfs   string   // lower layer of guests; empty: the host's root
	MaskDir  string   // mount point of the layer that hides secrets
	BaseDir  string   // mount points for building guests' roots
	Hide     []string // paths that guests must not see, beside the usual
	Reach    []string // directories that users of the machines must come to
	NoUserNS bool     // guests share this user namespace
	Rootless bool     // one user only
	Loopback bool     // bring up lo
}

// child is a box about to be started.
type child struct {
	spec     *os.File // read by the child
	ready    *os.File // read by us
	tell     *os.File // written by the child
	listener *os.File
	life     *os.File // read by the child; nil but for the hub
	lock     *os.File // held by the child; nil but for the hub
	log      *os.File // the child's standard error; nil: as the parent's
}

// prepare makes the child's descriptors. The socket is made here, for a guest
// can not reach its path.
func prepare(spec Spec, socket string) (_ *child, err error) {
	c := &child{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	path, release, err := shortPath(socket)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the box: %w", err)
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the box: %w", err)
	}
	l.SetUnlinkOnClose(false)
	c.listener, err = l.File()
	if err := errors.Join(err, l.Close(), os.Chmod(socket, 0o600)); err != nil {
		return nil, fmt.Errorf("cannot listen for the box: %w", err)
	}
	if c.spec, err = specFile(spec); err != nil {
		return nil, err
	}
	if c.ready, c.tell, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	return c, nil
}

// shortPath returns a path of a socket that fits into its address, which ends
// at 108 bytes (unix(7)), until release is called.
func shortPath(path string) (short string, release func(), err error) {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", nil, err
	}
	short = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)
	return short, func() { _ = dir.Close() }, nil // opened for its path only
}

// specFile returns a pipe that holds the specification, which is far smaller
// than a pipe's buffer.
func specFile(spec Spec) (*os.File, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the box: %w", err)
	}
	if len(data) > 32<<10 {
		return nil, fmt.Errorf("cannot describe the box in %d bytes", len(data))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("cannot describe the box: %w", errors.Join(err, r.Close()))
	}
	return r, nil
}

// fork starts this program again as the child. One thread at a time is enough
// for a box, and a thousand of them share the machine.
func (c *child) fork(attr *syscall.SysProcAttr) (int, error) {
	files := []uintptr{0, 1, 2, c.spec.Fd(), c.tell.Fd(), c.listener.Fd()}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files[0], files[1] = null.Fd(), null.Fd()
	if c.log != nil {
		files[2] = c.log.Fd()
	}
	if c.life != nil {
		files = append(files, c.life.Fd(), c.lock.Fd())
	}
	return syscall.ForkExec("/proc/self/exe", []string{childArgument},
		&syscall.ProcAttr{Env: []string{"PATH=" + machinePath, "GOMAXPROCS=1"}, Files: files, Sys: attr})
}

// wait returns when the child is ready, or its error.
func (c *child) wait() error {
	if err := c.tell.Close(); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(c.ready, 4096))
	switch {
	case err != nil:
		return err
	case string(text) == readyText:
		return nil
	case len(text) == 0:
		return errors.New("the process ended before it was ready")
	}
	return errors.New(string(text))
}

const readyText = "ready"

func (c *child) close() {
	for _, f := range []*os.File{c.spec, c.ready, c.tell, c.listener, c.life} {
		if f != nil {
			_ = f.Close() // ours, or closed already
		}
	}
}
