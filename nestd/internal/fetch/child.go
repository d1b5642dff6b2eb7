package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/confine"
	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/peer"
	"stork/nestd/internal/fetch/transfer/swarm"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// The child's inherited descriptors.
const (
	listenerFD = 3 // the unix socket that the daemon listens on
	spoolFD    = 4 // the directory it may write
	seedsFD    = 5 // the directory of what others may have, if there is one
)

// The child's resource limits: it buffers little, whatever servers send.
const (
	childMemory    = 1 << 30
	childOpenFiles = 4096
)

// Child is the fetcher process: it gives up what it does not need, then
// serves until ctx ends. Config is what the daemon passed as its argument.
// Messages go to log.
func Child(ctx context.Context, config string, log *slog.Logger) error {
	var c childConfig
	if err := repo.DecodeStrict([]byte(config), &c); err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	if err := confineChild(c.Seeds); err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	file := os.NewFile(listenerFD, "fetcher socket")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("cannot start fetcher: inherited socket: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("cannot start fetcher: inherited socket: %w", err)
	}
	worker, err := newWorker(&c, log)
	if err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	background := worker.background(ctx, &c)
	defer background.Wait()
	defer cancel()
	if worker.swarm != nil {
		defer worker.swarm.Close()
	}
	server := &http.Server{Handler: worker.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("fetcher stopped: %w", err)
	}
	return nil
}

// childConfig is the child's one argument, as JSON.
type childConfig struct {
	Proxy  string     `json:"proxy,omitempty"`
	Config Config     `json:"config"`
	Tuning web.Tuning `json:"tuning"`
	Seeds  bool       `json:"seeds"` // seedsFD is there

	Crashed bool `json:"crashed,omitempty"` // the child before this one panicked
}

// confineChild makes the spool the working directory, so that no directory
// above it need be open to the child's user, then gives up everything else.
func confineChild(seeds bool) error {
	firstOther := seedsFD
	if seeds {
		firstOther++
	}
	if err := confine.CloseInherited(firstOther); err != nil {
		return err
	}
	if err := unix.Fchdir(spoolFD); err != nil {
		return fmt.Errorf("cannot enter spool: %w", err)
	}
	if err := unix.Close(spoolFD); err != nil {
		return fmt.Errorf("cannot enter spool: %w", err)
	}
	if err := confine.SetLimits(confine.Limits{Memory: childMemory, FileSize: repo.MaxBlob + transfer.MaxMap, OpenFiles: childOpenFiles}); err != nil {
		return err
	}
	return confine.Landlock([]string{"."}, true)
}

// worker answers the daemon's requests.
type worker struct {
	client    *web.Client
	peers     *peer.Client // nil: nobody is asked
	swarm     *swarm.Swarm // nil: no part in swarms
	ratio     int64        // times that a package is seeded; 0: any
	limits    *transfer.Limits
	spool     *os.Root
	scheduler *transfer.Scheduler
	log       *slog.Logger
}

// newWorker makes a worker whose spool is the working directory.
func newWorker(c *childConfig, log *slog.Logger) (*worker, error) {
	client, err := web.NewClient(web.ClientOptions{Proxy: c.Proxy, Tuning: c.Tuning})
	if err != nil {
		return nil, err
	}
	spool, err := os.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	w := &worker{client: client, limits: transfer.NewLimits(c.Config.Limits), spool: spool, log: log}
	if len(c.Config.Peer.Peers) > 0 {
		if w.peers, err = peer.NewClient(c.Config.Peer, web.Tuning{}); err != nil {
			return nil, err
		}
	}
	w.ratio = c.Config.Swarm.Ratio
	if err := w.openSwarm(c, spool); err != nil {
		// A port that is taken costs swarms, and no downloads.
		log.Error("no part is taken in swarms", "err", err)
	}
	w.open(&c.Config, spool)
	return w, nil
}

// background does what nobody asks for: it follows the limits' schedule, and
// answers peers. A port that is taken costs that, and no downloads.
func (w *worker) background(ctx context.Context, c *childConfig) *sync.WaitGroup {
	group := new(sync.WaitGroup)
	group.Go(func() { w.limits.Run(ctx) })
	if c.Config.Peer.Listen != "" && c.Seeds {
		server := &peer.Server{Config: c.Config.Peer, Open: openSeed, Limit: w.limits.Up(), Log: w.log}
		group.Go(func() {
			if err := server.Serve(ctx); err != nil {
				w.log.Error("peers are not answered", "err", err)
			}
		})
	}
	return group
}

// openSeed opens what the daemon keeps for others.
func openSeed(d repo.Digest) (*os.File, error) {
	fd, err := unix.Openat(seedsFD, d.Hex(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Hex(), Err: err}
	}
	return os.NewFile(uintptr(fd), d.Hex()), nil
}

func (w *worker) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+getRoute, w.serveGet)
	mux.HandleFunc("POST "+blobRoute, w.serveBlob)
	mux.HandleFunc("POST "+inflateRoute, serveInflate)
	mux.HandleFunc("POST "+seedsRoute, w.serveSeeds)
	mux.HandleFunc("POST "+piecesRoute, w.servePieces)
	return mux
}

// decodeRequest reads the daemon's request; on a bad one it has answered.
func decodeRequest(out http.ResponseWriter, in *http.Request, v any) bool {
	b, err := io.ReadAll(http.MaxBytesReader(out, in.Body, maxRequest))
	if err == nil {
		err = repo.DecodeStrict(b, v)
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
