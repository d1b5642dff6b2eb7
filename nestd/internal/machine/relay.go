package machine

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/channel"
	"stork/nestd/confine"
)

// relayMemory is how many bytes the relay may use: each of its connections
// has a window in either direction.
const relayMemory = 256 << 20

// Relay takes the machine's serial port to the guest's socket, until ctx
// ends. QEMU is at the other end of the socket that is its first descriptor;
// each machine has one connection to it, for as long as it is switched on.
func Relay(ctx context.Context, log *slog.Logger) error {
	if err := seal(); err != nil {
		return err
	}
	f := os.NewFile(firstFile, "channel")
	listener, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("cannot listen for the machine: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot listen for the machine: %w", err)
	}
	return serve(ctx, listener, filepath.Join(api.GuestDir, api.SocketName), log)
}

// seal gives up what the relay does not need: all but its descriptor, and
// connecting to sockets.
func seal() error {
	if err := confine.CloseInherited(firstFile + 1); err != nil {
		return err
	}
	if err := confine.SetLimits(confine.Limits{Memory: relayMemory, OpenFiles: 1024}); err != nil {
		return err
	}
	if err := confine.Seal(); err != nil {
		return err
	}
	return confine.Filter(unix.SYS_SOCKET)
}

// serve serves one machine after the other.
func serve(ctx context.Context, listener net.Listener, socket string, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		port, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot listen for the machine: %w", err)
		}
		log.Info("the machine is connected")
		err = channel.Serve(ctx, port, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		})
		log.Info("the machine is gone", "err", err)
	}
}
