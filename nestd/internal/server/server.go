package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"stork/nestd/api"
	"stork/nestd/internal/nest"
)

// Options are what a server is made of.
type Options struct {
	Nest           *nest.Nest
	OperatorSocket string // path
	Log            *slog.Logger
}

// Server listens on the operator's and every guest's socket.
type Server struct {
	options Options
	turns   *turns
	life    context.Context // every request's context ends with it

	mu      sync.Mutex
	guests  map[string]*http.Server
	closed  bool
	serving sync.WaitGroup

	operator *http.Server
}

// Limits of one socket: so many connections, and so many requests in work. A
// guest that wants more waits for itself and holds nobody else up.
const (
	guestConnections    = 128
	guestRequests       = 32
	operatorConnections = 64
	operatorRequests    = 16
)

const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	checkTimeout    = 6 * time.Hour
	prefetchTimeout = 24 * time.Hour
	shutdownTimeout = 5 * time.Second
)

// Open listens on every socket. ctx is the daemon's lifetime.
func Open(ctx context.Context, o Options) (*Server, error) {
	s := &Server{options: o, life: ctx, guests: map[string]*http.Server{}, turns: newTurns(runtime.GOMAXPROCS(0))}
	guests, err := o.Nest.Guests(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	for _, g := range guests {
		if err := s.listenGuest(g); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	handler := s.mux("", operatorRoutes, make(chan struct{}, operatorRequests))
	s.operator, err = s.serve(o.OperatorSocket, 0o600, operatorConnections, nil, handler)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends every request, after a moment in which those that can end by
// themselves do, and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	servers := []*http.Server{s.operator}
	for _, guest := range s.guests {
		servers = append(servers, guest)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.life), shutdownTimeout)
	defer cancel()
	var closing sync.WaitGroup
	errs := make([]error, len(servers))
	for i, server := range servers {
		if server == nil {
			continue
		}
		closing.Go(func() {
			if server.Shutdown(ctx) != nil {
				errs[i] = server.Close()
			}
		})
	}
	closing.Wait()
	s.serving.Wait()
	return errors.Join(errs...)
}

// listenGuest opens a guest's socket, if it is not open. Anybody in the guest
// may connect to it: the nest can not know the host's number of the guest's
// root before the guest runs. It answers questions to all, and does things to
// the guest for its root only. A guest without a user namespace of its own has
// the host's root.
func (s *Server) listenGuest(g api.Guest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return context.Canceled
	}
	if s.guests[g.Name] != nil {
		return nil
	}
	mode := fs.FileMode(0o666)
	if g.HostUserNS {
		mode = 0o600
	}
	handler := s.mux(g.Name, guestRoutes, make(chan struct{}, guestRequests))
	server, err := s.serve(s.options.Nest.SocketPath(g.Name), mode, guestConnections, s.turns, handler)
	if err != nil {
		return err
	}
	s.guests[g.Name] = server
	return nil
}

// closeGuest closes a guest's socket and connections at once.
func (s *Server) closeGuest(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	server := s.guests[name]
	if server == nil {
		return nil
	}
	delete(s.guests, name)
	return server.Close()
}

// serve listens at path and serves in the background. The socket of an
// earlier run is replaced; the directory it lies in stays the same, so guests
// that have it bound find the new one.
func (s *Server) serve(path string, mode fs.FileMode, connections int, turns *turns, handler http.Handler) (*http.Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen: %w", err), listener.Close())
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.life },
		ConnContext:       withConn,
	}
	s.serving.Go(func() {
		err := server.Serve(&limitedListener{UnixListener: listener, places: make(chan struct{}, connections), closed: make(chan struct{}), turns: turns})
		if !errors.Is(err, http.ErrServerClosed) {
			s.options.Log.Error("socket failed", "path", path, "err", err)
		}
	})
	return server, nil
}
