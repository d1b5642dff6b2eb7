package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"stork/nestd/api"
	"stork/nestd/internal/nest"
	"stork/repo"
)

// call is one request on its way through a handler.
type call struct {
	server *Server
	guest  string // empty on the operator's socket
	body   int64
	out    http.ResponseWriter
	in     *http.Request
}

// sent is what a handler returns that has written its answer itself.
type sent struct{}

// bodyTimeout is how long a body may take to arrive, and writeTimeout how long
// a reader may leave a part of the answer lying.
const (
	bodyTimeout  = 30 * time.Second
	writeTimeout = 2 * time.Minute
)

// mux builds the handler of one socket from its table. Anything that is in no
// line of it is answered in the protocol's own words, too.
func (s *Server) mux(guest string, routes []route, places chan struct{}) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, func(out http.ResponseWriter, in *http.Request) {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-in.Context().Done():
				return
			}
			c := &call{server: s, guest: guest, body: r.body, out: out, in: in}
			c.run(r.handler)
		})
	}
	mux.HandleFunc("/", func(out http.ResponseWriter, in *http.Request) {
		c := &call{server: s, guest: guest, out: out, in: in}
		c.fail(&api.Error{Code: api.NotFound, Message: fmt.Sprintf("cannot %s %.200q: no such route", in.Method, in.URL.Path)})
	})
	return mux
}

// run answers a request. A defect in a handler costs this request and no
// other.
func (c *call) run(handler func(*call) (any, error)) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		c.server.options.Log.Error("handler panicked", "guest", c.guest, "path", c.in.URL.Path, "panic", v, "stack", string(debug.Stack()))
		c.fail(&api.Error{Code: api.InternalCode, Message: "the nest has a defect", Hint: "See the log of nestd on the host."})
	}()
	c.deadline(writeTimeout)
	result, err := handler(c)
	if err != nil {
		c.fail(nest.Explain(err))
		return
	}
	if _, done := result.(sent); !done {
		c.reply(http.StatusOK, result)
	}
}

// fail answers with an error, and logs it if it is the nest's own.
func (c *call) fail(wire *api.Error) {
	if wire.Code == api.InternalCode || wire.Code == api.NoSpace {
		c.server.options.Log.Error("request failed", "guest", c.guest, "path", c.in.URL.Path, "err", wire.Message)
	}
	c.reply(wire.Code.Status(), wire)
}

func (c *call) reply(status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		c.server.options.Log.Error("cannot encode answer", "path", c.in.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	c.deadline(writeTimeout)
	c.out.Header().Set("Content-Type", "application/json")
	c.out.WriteHeader(status)
	// If the guest is gone there is nobody to tell.
	_, _ = c.out.Write(append(b, '\n'))
}

// deadline renews the time by which the peer must have taken what is written.
func (c *call) deadline(d time.Duration) {
	// A connection without deadlines is one of a test's recorder.
	_ = http.NewResponseController(c.out).SetWriteDeadline(time.Now().Add(d))
}

// decode reads the request's body into v.
func (c *call) decode(v any) error {
	_ = http.NewResponseController(c.out).SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(c.out, c.in.Body, c.body))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &api.Error{Code: api.TooLarge, Message: fmt.Sprintf("cannot read request: over %d bytes", large.Limit)}
	}
	if err != nil {
		return &api.Error{Code: api.BadRequest, Message: "cannot read request: " + err.Error()}
	}
	// Without a deadline from here on: the connection's reader notices when
	// the peer goes away, which must not look like a slow body.
	_ = http.NewResponseController(c.out).SetReadDeadline(time.Time{})
	if err := repo.DecodeStrict(b, v); err != nil {
		return &api.Error{Code: api.BadRequest, Message: "cannot read request: " + err.Error()}
	}
	return nil
}

// connKey finds a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// conn returns the connection that a request came in on.
func (c *call) conn() (*net.UnixConn, error) {
	switch conn := c.in.Context().Value(connKey{}).(type) {
	case *limitedConn:
		return conn.UnixConn, nil
	case *net.UnixConn:
		return conn, nil
	}
	return nil, errors.New("cannot identify the peer: not a unix connection")
}
