package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"stork/repo/internal/ingest"
	"stork/repo/internal/server"
	"stork/repo/program"
)

type serveCmd struct {
	Dir         string `arg:"" optional:"" help:"The repository's directory. Default as for --dir of the other commands." env:"STORK_REPO"`
	Listen      string `help:"Address to listen on." default:":8750" placeholder:"ADDR"`
	User        string `help:"Run as this user, who owns the directory. For a start as root, which only the listening needs." placeholder:"NAME"`
	Quota       int64  `help:"Bytes that one upload may have." default:"549755813888" placeholder:"BYTES"`
	MaxObjects  int    `help:"Objects that one upload may have." default:"1000000" placeholder:"N"`
	Frames      bool   `help:"Offer the files of large packages one by one too, for nests that have most of them: takes about as much disk again." default:"true" negatable:""`
	MemoryLimit int64  `help:"Bytes of memory to stay below, if it can be done by collecting garbage more often." default:"402653184" placeholder:"BYTES"`
}

// Run serves until it is told to stop (SIGINT, SIGTERM).
func (c *serveCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(streams.Err, nil))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", c.Listen, err)
	}
	defer listener.Close()
	if c.User != "" {
		if err := become(c.User); err != nil {
			return fmt.Errorf("cannot become user %s: %w", c.User, err)
		}
	}
	if os.Geteuid() == 0 {
		log.Warn("running as root: uploads are parsed by this process, give it a user of its own with --user")
	}
	h, err := openHome(c.Dir, env)
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(c.MemoryLimit)
	s, err := server.New(ctx, server.Options{
		Home: h, Log: log, Processors: runtime.NumCPU(), Limits: ingest.Limits{Bytes: c.Quota, NoFrames: !c.Frames, Objects: c.MaxObjects},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	at, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return fmt.Errorf("cannot serve at %s: %w", listener.Addr(), err)
	}
	if err := h.SetServing(at); err != nil {
		return err
	}
	return errors.Join(s.Run(ctx, listener), h.EndServing())
}

// become gives up root for another user, its group and its groups, for good.
func become(name string) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can")
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}
