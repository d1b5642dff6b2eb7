package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/nestd/api"
)

// fakePorts is the kernel's list of ports.
func fakePorts(t *testing.T, names ...string) *guestDialer {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		port := filepath.Join(dir, "ports", "vport1p"+string(rune('1'+i)))
		if err := errors.Join(os.MkdirAll(port, 0o755), os.WriteFile(filepath.Join(port, "name"), []byte(name+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	d := newGuestDialer(dir)
	d.ports, d.devices = filepath.Join(dir, "ports"), "/dev/of"
	return d
}

func TestFindPort(t *testing.T) {
	t.Parallel()
	got, err := fakePorts(t, "org.qemu.guest_agent.0", api.PortName).find()
	if err != nil || got != "/dev/of/vport1p2" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, d := range []*guestDialer{fakePorts(t), fakePorts(t, "other", api.PortName+"0")} {
		if got, err := d.find(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %q, %v, want that there is none", got, err)
		}
	}
}

// TestNoPort: a guest waits for its port no longer than it is asked to.
func TestNoPort(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := fakePorts(t).open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that it took too long", err)
	}
}

// TestPortIsForMachines: a container inside of a machine does not take the
// machine's port for its own when its nest is down.
func TestPortIsForMachines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, api.SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false) // nobody listens there any more
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	n := Dial(dir, nil)
	defer n.Close()
	n.dialer.ports = filepath.Join(dir, "none")
	began := time.Now()
	if _, err := n.Status(context.Background()); !errors.Is(err, ErrDown) {
		t.Errorf("got %v, want that the nest is down", err)
	}
	if time.Since(began) > portPatience/2 {
		t.Error("it looked for a port")
	}
}
