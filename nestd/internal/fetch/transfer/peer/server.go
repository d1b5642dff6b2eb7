package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"stork/repo"
)

// Server answers peers.
type Server struct {
	Config Config

	// Open opens a file that this nest has, or returns fs.ErrNotExist.
	Open func(repo.Digest) (*os.File, error)

	Limit *rate.Limiter // of what is sent, in bytes
	Log   *slog.Logger
}

// perPeer is how many connections one address may have.
const perPeer = 8

// The patience with who asks. What is sent in one piece, in bytes, must be
// taken within sendTimeout.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 60 * time.Second
	sendTimeout   = 20 * time.Second
	piece         = 32 << 10
)

// Serve listens and answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Config.Listen)
	if err != nil {
		return fmt.Errorf("cannot serve peers: %w", err)
	}
	return s.serve(ctx, inner)
}

func (s *Server) serve(ctx context.Context, inner net.Listener) error {
	most := s.Config.Connections
	if most == 0 {
		most = defaultConnections
	}
	listener := &listener{Listener: inner, config: &s.Config, free: make(chan struct{}, most), peers: map[string]int{}}
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: sendTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve peers: %w", err)
	}
	return nil
}

// ServeHTTP implements [http.Handler]: one file by its digest, or 404.
func (s *Server) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	hex, ok := strings.CutPrefix(in.URL.Path, objects)
	digest, err := repo.ParseHex(hex)
	if !ok || err != nil || in.Method != http.MethodGet && in.Method != http.MethodHead {
		http.NotFound(out, in)
		return
	}
	file, err := s.Open(digest)
	if err != nil {
		http.NotFound(out, in)
		return
	}
	defer file.Close()
	// A range of many small ones costs us more than who asks; one is enough.
	if strings.Contains(in.Header.Get("Range"), ",") {
		http.Error(out, "one range at a time", http.StatusRequestedRangeNotSatisfiable)
		return
	}
	out.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&limited{ResponseWriter: out, request: in, limit: s.Limit}, in, "", time.Time{}, file)
}

// limited sends no faster than it may, and not to one who does not take it.
type limited struct {
	http.ResponseWriter
	request *http.Request
	limit   *rate.Limiter
}

// Write implements [io.Writer].
func (l *limited) Write(p []byte) (int, error) {
	control := http.NewResponseController(l.ResponseWriter)
	for done := 0; done < len(p); {
		part := p[done:min(done+piece, len(p))]
		if err := l.limit.WaitN(l.request.Context(), len(part)); err != nil {
			return done, err
		}
		if err := control.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
			return done, err
		}
		n, err := l.ResponseWriter.Write(part)
		if done += n; err != nil {
			return done, err
		}
	}
	return len(p), nil
}

// listener lets in only who may come, and so many at a time.
type listener struct {
	net.Listener
	config *Config
	free   chan struct{}

	mu    sync.Mutex
	peers map[string]int // connections by address
}

// Accept implements [net.Listener]. Who may not come is hung up on.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(conn); admitted != nil {
			return admitted, nil
		}
		conn.Close()
	}
}

func (l *listener) admit(conn net.Conn) net.Conn {
	address := conn.RemoteAddr().String()
	if l.config.allow(address) != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers[host] >= perPeer {
		return nil
	}
	select {
	case l.free <- struct{}{}:
	default:
		return nil
	}
	l.peers[host]++
	return &guest{Conn: conn, leave: sync.OnceFunc(func() { l.leave(host) })}
}

func (l *listener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	<-l.free
	if l.peers[host]--; l.peers[host] == 0 {
		delete(l.peers, host)
	}
}

// guest is a connection that was let in.
type guest struct {
	net.Conn
	leave func()
}

// Close implements [net.Conn].
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}
