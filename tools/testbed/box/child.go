package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"stork/tools/testbed/netlink"
)

// machinePath is where machines and guests look for programs; guests look in
// /run/stork first.
const machinePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// IsChild says whether the program was started as a box.
func IsChild(args []string) bool { return len(args) == 1 && args[0] == childArgument }

// RunChild is the program of a box. It returns the exit status, if ever: a
// box lives until it is killed.
func RunChild([]string) int {
	for fd := fdSpec; fd <= fdLock; fd++ {
		unix.CloseOnExec(fd)
	}
	ready := os.NewFile(fdReady, "ready")
	b, listener, err := begin()
	if err != nil {
		fmt.Fprint(ready, err)
		return 1
	}
	fmt.Fprint(ready, readyText)
	if err := errors.Join(ready.Close(), b.serve(listener)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// begin sets the box up from the inside.
func begin() (*box, *net.UnixListener, error) {
	b := &box{}
	file := os.NewFile(fdSpec, "spec")
	err := json.NewDecoder(io.LimitReader(file, 1<<16)).Decode(&b.spec)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, nil, fmt.Errorf("cannot read the box's description: %w", err)
	}
	l, err := net.FileListener(os.NewFile(fdSocket, "socket"))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen: %w", err)
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, nil, errors.New("cannot listen: not a unix socket")
	}
	if err := unix.Sethostname([]byte(hostname(b.spec.Name))); err != nil {
		return nil, nil, fmt.Errorf("cannot set the host's name: %w", err)
	}
	unix.Umask(0o022)
	if err := b.mounts(); err != nil {
		return nil, nil, err
	}
	if b.spec.Loopback {
		if err := loopback(); err != nil {
			return nil, nil, err
		}
	}
	b.reaper = newReaper()
	b.guests = newKitchen(b.spec)
	if b.atBoot, err = countMounts(); err != nil {
		return nil, nil, err
	}
	if b.spec.Kind == KindHub {
		go b.endWithStarter()
	}
	return b, listener, nil
}

// endWithStarter ends the hub, and so everything, when the program that
// started it ends before it has released it.
func (b *box) endWithStarter() {
	buf := make([]byte, 1)
	_, _ = os.NewFile(fdLife, "life").Read(buf) // returns at the end of the pipe
	if !b.released.Load() {
		os.Exit(1)
	}
}

// mounts gives the box its own view of mounts and processes.
func (b *box) mounts() error {
	if b.spec.Kind == KindGuest {
		return enterRoot()
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := mountProc("/proc"); err != nil {
		return err
	}
	if b.spec.Kind != KindHub {
		return nil
	}
	if !b.spec.Rootless { // else there is one user, who can go there
		if err := makeReachable(b.spec.Reach); err != nil {
			return err
		}
	}
	if b.spec.Rootfs == "" {
		return makeMask(b.spec)
	}
	return nil
}

func mountProc(at string) error {
	if err := unix.Mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", at, err)
	}
	return nil
}

func loopback() error {
	c, err := netlink.Dial()
	if err != nil {
		return err
	}
	return errors.Join(c.Up("lo"), c.Close())
}
