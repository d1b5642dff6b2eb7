package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"stork/client/share"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/nest"
	"stork/nestd/internal/server"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/program"
)

type runCommand struct {
	Client   string        `type:"path" placeholder:"FILE" help:"The static client that guests get; default: stork beside nestd."`
	Interval time.Duration `default:"30s" help:"At most between two looks at a repository."`
	LogJSON  bool          `name:"log-json" help:"Log JSON."`
	Verbose  bool          `short:"v" help:"Log more."`
}

// Run runs the daemon until ctx ends.
func (c *runCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	if err := attach.CheckKernel(); err != nil {
		return fmt.Errorf("cannot run nestd: %w", err)
	}
	log := c.logger(streams)
	d, err := c.open(ctx, home, log)
	if err != nil {
		return err
	}
	c.notify(log, daemon.SdNotifyReady)
	log.Info("ready", "version", repo.Version, "operator", operatorSocket(d.runDir))
	err = d.nest.Run(ctx)
	c.notify(log, daemon.SdNotifyStopping)
	log.Info("stopping")
	return errors.Join(err, d.close())
}

func (c *runCommand) logger(streams program.Streams) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Verbose {
		options.Level = slog.LevelDebug
	}
	if c.LogJSON {
		return slog.New(slog.NewJSONHandler(streams.Err, options))
	}
	return slog.New(slog.NewTextHandler(streams.Err, options))
}

// notify tells systemd, if it is there.
func (c *runCommand) notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "err", err)
	}
}

// running is the daemon, wired.
type running struct {
	runDir string
	nest   *nest.Nest
	server *server.Server
}

func (d *running) close() error { return errors.Join(d.server.Close(), d.nest.Close()) }

// open opens the rooms from the inside out. Whatever is open already when one
// fails is closed again.
func (c *runCommand) open(ctx context.Context, home *home, log *slog.Logger) (d *running, err error) {
	var closers []func() error
	defer func() {
		if err != nil {
			for i := len(closers) - 1; i >= 0; i-- {
				err = errors.Join(err, closers[i]())
			}
		}
	}()
	opened := func(closer func() error) { closers = append(closers, closer) }

	conf, err := home.load()
	if err != nil {
		return nil, err
	}
	options := nest.Options{Dir: home.dir, RunDir: conf.RunDir, Interval: c.Interval, WarmBytes: conf.Warm, Private: share.Private, Log: log}
	if err := c.local(home, conf, &options); err != nil {
		return nil, err
	}
	// The store's lock is what keeps a second daemon out: it comes first.
	if options.Store, err = store.Open(ctx, store.Options{Dir: home.path("store"), Log: log}); err != nil {
		return nil, err
	}
	opened(options.Store.Close)
	if options.State, err = state.Open(ctx, state.Options{Path: home.path("state.db")}); err != nil {
		return nil, err
	}
	opened(options.State.Close)
	if options.Attacher, err = attach.Open(ctx, options.Store.LayersDir(), []string{self, placerCommand}, log); err != nil {
		return nil, err
	}
	opened(options.Attacher.Close)
	key, err := home.identity(durable.Disk{})
	if err != nil {
		return nil, err
	}
	if options.Fetcher, err = fetch.Start(ctx, fetch.Options{
		Trackers: trackers(ctx, key, options.State, log),
		Args:     []string{fetcherCommand}, UID: options.Unpack.UID, GID: options.Unpack.GID,
		Proxy: conf.Proxy, Config: conf.Transfer, Spool: home.path("spool"), Seeds: home.path("seeds"),
		SocketDir: filepath.Join(conf.RunDir, "fetcher"), Log: log,
	}); err != nil {
		return nil, err
	}
	opened(options.Fetcher.Close)
	d = &running{runDir: conf.RunDir}
	if d.nest, err = nest.Open(ctx, options); err != nil {
		return nil, err
	}
	closers = []func() error{d.nest.Close} // which closes all of the above
	d.server, err = server.Open(ctx, server.Options{Nest: d.nest, OperatorSocket: operatorSocket(conf.RunDir), Log: log})
	return d, err
}

// local fills in what comes from this host: directories, key, users, client.
func (c *runCommand) local(home *home, conf *config, o *nest.Options) error {
	var disk durable.Disk
	if err := disk.MkdirAll(conf.RunDir, 0o711); err != nil {
		return fmt.Errorf("cannot make run directory: %w", err)
	}
	if n := len(operatorSocket(conf.RunDir)); n > maxSocketPath {
		return &program.Error{
			Status: program.Failed, Err: fmt.Errorf("cannot run nestd: the path of the operator's socket has %d bytes, %d are possible", n, maxSocketPath),
			Hint: "Run 'nestd init' again with a shorter --run-dir.",
		}
	}
	key, err := home.identity(disk)
	if err != nil {
		return err
	}
	o.Identity = key.Public().(ed25519.PublicKey)
	u, err := childUser(conf.User)
	if err != nil {
		return err
	}
	o.Unpack = unpack.Options{Exe: self, Args: []string{unpackerCommand}, UID: u.uid, GID: u.gid, Log: o.Log}
	o.Client, o.Quick, err = c.clients(o.Log)
	return err
}

// quickName is what guests run first, beside the whole client on the host.
const quickName = "stork-guest"

// clients finds what guests get: the client, and its quick part beside it. A
// guest can do without either.
func (c *runCommand) clients(log *slog.Logger) (whole, quick string, err error) {
	whole = c.Client
	if whole == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", "", fmt.Errorf("cannot find the client: %w", err)
		}
		whole = filepath.Join(filepath.Dir(exe), api.BinaryName)
		if _, err := os.Stat(whole); err != nil {
			log.Warn("no client beside nestd: guests need a stork of their own", "path", whole)
			return "", "", nil
		}
	}
	quick = filepath.Join(filepath.Dir(whole), quickName)
	if _, err := os.Stat(quick); err != nil {
		log.Warn("no quick client beside the client: every command in a guest takes some milliseconds longer", "path", quick)
		quick = ""
	}
	return whole, quick, nil
}

// maxSocketPath is what sockaddr_un holds (unix(7)), less the final NUL.
const maxSocketPath = 107
