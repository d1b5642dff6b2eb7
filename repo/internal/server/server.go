package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"stork/repo/api"
	"stork/repo/internal/home"
	"stork/repo/internal/ingest"
	"stork/repo/internal/tracker"
)

// Options say how a repository is served. Zero fields mean the default.
type Options struct {
	Home       *home.Home
	Log        *slog.Logger
	Limits     ingest.Limits
	Processors int // that can work at the same time; default 1

	// Pace is how fast a client must read and send, on the average since its
	// request began; default 1 KiB a second, after a minute of grace.
	Pace  int64
	Grace time.Duration

	Uploads    int           // requests below /upload/ at the same time; default 64
	RenewEvery time.Duration // how often to look whether something must be renewed; default 5 minutes
}

func (o Options) withDefaults() Options {
	o.Processors = max(o.Processors, 1)
	if o.Pace <= 0 {
		o.Pace = 1 << 10
	}
	if o.Grace <= 0 {
		o.Grace = time.Minute
	}
	if o.Uploads <= 0 {
		o.Uploads = 64
	}
	if o.RenewEvery <= 0 {
		o.RenewEvery = 5 * time.Minute
	}
	return o
}

// Server serves one repository. One process at a time may serve it.
type Server struct {
	opts       Options
	log        *slog.Logger
	home       *home.Home
	ingest     *ingest.Ingest
	tree       *os.Root
	tracker    *tracker.Tracker
	counters   *counters
	registry   *prometheus.Registry
	compressor *compressor
	uploads    chan struct{} // a token for each upload request
	release    func()        // of the claim on the uploads directory
}

// New prepares to serve: it claims the repository's uploads, and finishes or
// undoes what an earlier process left. Close ends the claim.
func New(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	release, err := o.Home.ClaimUploads()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, log: o.Log, home: o.Home, release: release,
		ingest:     ingest.New(o.Home, o.Log, o.Limits, o.Processors),
		uploads:    make(chan struct{}, o.Uploads),
		compressor: newCompressor(o.Processors),
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot serve %s: %w", o.Home.Dir(), err)
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	s.tracker = tracker.New(tracker.Options{
		Root: s.home.Root, Knows: newNestList(s.home, s.log).knows, Info: s.publishedInfo, Now: s.home.Now,
	})
	s.counters, s.registry = newCounters(s.tracker)
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stork_repo_expiring", Help: "Roles and key documents that have expired or soon will; -1 if unknown.",
	}, s.expiring))
	var err error
	if s.tree, err = os.OpenRoot(s.home.Tree()); err != nil {
		return err
	}
	if err := s.ingest.Recover(ctx); err != nil {
		return err
	}
	return s.renew(ctx)
}

// Close gives up the claim on the repository. Run must have returned.
func (s *Server) Close() {
	if s.tree != nil {
		s.tree.Close()
	}
	s.release()
}

// How long a client may take with what comes before its first body byte, and
// how long a stop waits for requests under way.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	stopTimeout    = 30 * time.Second
	maxHeaderBytes = 16 << 10
)

// Run serves on l until ctx ends; then it lets requests under way finish for
// a while. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	group, groupCtx := errgroup.WithContext(ctx)
	requests, stopRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRequests()
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("cannot serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-groupCtx.Done()
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := server.Shutdown(wait); err != nil {
			stopRequests()
			return server.Close()
		}
		return nil
	})
	group.Go(func() error { s.maintain(groupCtx); return nil })
	s.log.Info("serving", "address", l.Addr().String(), "root", s.home.Root)
	return group.Wait()
}

// Handler returns everything that is served.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, top := range []string{"metadata", "keys", "data", "blobs", "packs", "deltas", "frames"} {
		mux.HandleFunc("GET /"+top+"/", s.serveTree)
	}
	mux.HandleFunc("POST /upload/{role}", s.upload(s.openUpload))
	mux.HandleFunc("POST /upload/{role}/{session}/files", s.upload(s.receiveFiles))
	mux.HandleFunc("POST /upload/{role}/{session}/commit", s.upload(s.commitUpload))
	mux.HandleFunc("GET "+api.AnnounceRoute+"{token}/{info}", s.serveAnnounce)
	mux.HandleFunc("GET "+api.WarmRoute, s.serveWarm)
	mux.HandleFunc("GET /v1/stats", s.serveStats)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /{$}", s.servePage)
	return mux
}

// maintain renews metadata and removes uploads that nobody came back for,
// until ctx ends.
func (s *Server) maintain(ctx context.Context) {
	tick := time.NewTicker(s.opts.RenewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.renew(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("metadata not renewed", "err", err)
		}
		s.tracker.Expire()
		if err := s.ingest.Expire(); err != nil {
			s.log.Error("unused uploads not removed", "err", err)
		}
	}
}

// renew replaces timestamp and snapshot in time, and warns of what only
// people can renew.
func (s *Server) renew(ctx context.Context) error {
	unlock, err := s.home.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	metadata, err := s.home.Metadata()
	if err != nil {
		return err
	}
	renewed, err := metadata.Renew(false)
	if err != nil || !renewed {
		return err
	}
	s.log.Info("metadata renewed")
	warnings, err := metadata.Warnings()
	for _, w := range warnings {
		s.log.Warn("expires soon", "what", w.What, "expires", w.Expires)
	}
	return err
}
