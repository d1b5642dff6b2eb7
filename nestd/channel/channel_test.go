package channel

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// port is a serial port: the host's end is served, the guest's end is opened
// by one process after another. What a process leaves unread stays.
type port struct {
	guest  int
	socket string
	closed chan error // Serve has returned
	host   net.Conn
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fileConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "port")
	defer f.Close()
	c, err := net.FileConn(f)
	must(t, err)
	return c
}

// newPort serves a port, with an HTTP server behind it.
func newPort(t testing.TB) *port {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	p := &port{guest: pair[0], socket: filepath.Join(t.TempDir(), "s"), closed: make(chan error, 1), host: fileConn(t, pair[1])}
	listener, err := net.Listen("unix", p.socket)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	go func() { _ = server.Serve(listener) }()
	go func() {
		p.closed <- Serve(context.Background(), p.host, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.socket)
		})
	}()
	t.Cleanup(func() {
		_ = unix.Close(p.guest)
		_ = server.Close()
		select {
		case err := <-p.closed:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return p
}

// answer says what it was sent, or /bytes/N of anything, or nothing until the
// client is gone.
func answer(out http.ResponseWriter, in *http.Request) {
	var n int64
	if _, err := fmt.Sscanf(in.URL.Path, "/bytes/%d", &n); err == nil {
		_, _ = io.CopyN(out, mathrand.NewChaCha8([32]byte{}), n)
		return
	}
	if in.URL.Path == "/hang" {
		<-in.Context().Done()
		return
	}
	b, _ := io.ReadAll(in.Body)
	_, _ = out.Write(b)
}

// process opens the guest's end, as a process does.
func (p *port) process(t testing.TB) net.Conn {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(p.guest), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return fileConn(t, fd)
}

func (p *port) session(t testing.TB) *Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := Open(ctx, p.process(t), rand.Reader)
	must(t, err)
	return s
}

func httpClient(s *Session) *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }},
	}
}

func echo(s *Session, body []byte) error {
	client := httpClient(s)
	defer client.CloseIdleConnections()
	answer, err := client.Post("http://nest/echo", "", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("got %d bytes, want %d, or they differ", len(got), len(body))
	}
	return err
}

func TestManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPort(t)
	for range 3 { // one process after another
		s := p.session(t)
		var work sync.WaitGroup
		for i := range 20 {
			work.Go(func() {
				body := bytes.Repeat([]byte{0, 1, 2, byte(i)}, i*4_000)
				if err := echo(s, body); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			})
		}
		work.Wait()
		must(t, s.Close())
	}
}

// TestUnreadConnection: one that nobody reads holds up no other.
func TestUnreadConnection(t *testing.T) {
	t.Parallel()
	s := newPort(t).session(t)
	defer s.Close()
	for range 3 {
		unread, err := s.Dial(context.Background())
		must(t, err)
		defer unread.Close()
		_, err = io.WriteString(unread, "GET /bytes/10000000 HTTP/1.1\r\nHost: nest\r\n\r\n")
		must(t, err)
	}
	must(t, echo(s, bytes.Repeat([]byte("x"), 1<<20)))
}

// TestKilled kills processes at every kind of moment: the next one works, and
// what the one before has asked for ends.
func TestKilled(t *testing.T) {
	t.Parallel()
	p := newPort(t)
	name := session{1, 2, 3}
	begin := appendFrame(appendFrame(nil, frame{session: name, kind: hello, payload: []byte{Version}}), frame{session: name, kind: open, stream: 1})
	for what, request := range map[string]string{
		"":                         "",
		"after a request":          "GET /bytes/3000000 HTTP/1.1\r\nHost: nest\r\n\r\n",
		"while the nest works":     "GET /hang HTTP/1.1\r\nHost: nest\r\n\r\n",
		"in the middle of a body":  "POST /echo HTTP/1.1\r\nHost: nest\r\nContent-Length: 100000\r\n\r\nabc",
		"between many small ones":  strings.Repeat("GET /bytes/1 HTTP/1.1\r\nHost: nest\r\n\r\n", 50),
		"with what is not allowed": strings.Repeat("\x00", maxPayload),
	} {
		whole := begin
		if request != "" {
			whole = appendFrame(bytes.Clone(begin), frame{session: name, kind: data, stream: 1, payload: []byte(request)})
		}
		for _, cut := range []int{0, 1, 7, 20, len(whole) - 1} {
			process := p.process(t)
			_, err := process.Write(whole[:max(len(whole)-cut, 0)])
			must(t, err)
			if cut == 7 {
				time.Sleep(5 * time.Millisecond) // answers are on their way
			}
			must(t, process.Close())
			s := p.session(t)
			if err := echo(s, []byte("hello")); err != nil {
				t.Errorf("after one killed %s, %d bytes before the end: %v", what, cut, err)
			}
			if cut%2 == 0 { // else it is killed, too
				must(t, s.Close())
			} else {
				must(t, s.port.Close())
				<-s.done
			}
		}
	}
}

func TestNestDown(t *testing.T) {
	t.Parallel()
	p := newPort(t)
	must(t, os.Remove(p.socket))
	s := p.session(t)
	defer s.Close()
	err := echo(s, nil)
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v, want why the nest can not be reached", err)
	}
}

// TestNobodyThere: the host's end is closed, before or during a session.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	p := newPort(t)
	s := p.session(t)
	must(t, p.host.Close())
	if err := echo(s, nil); err == nil {
		t.Error("a request over a closed port succeeds")
	}
	must(t, s.Close())
	if _, err := Open(context.Background(), p.process(t), rand.Reader); err == nil {
		t.Error("a session over a closed port begins")
	}
	<-p.closed // with an error: its port was closed under it
	p.closed <- nil
}

// TestSilentHost: Open ends with its context.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer b.Close()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, a, rand.Reader); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that it took too long", err)
	}
}

// TestHostStopsReading: a host that has begun and then reads nothing more keeps
// nobody longer than he likes to wait.
func TestHostStopsReading(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*Session) error{
		"a connection": func(s *Session) error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_, err := s.Dial(ctx)
			if err == nil {
				return errors.New("a connection that nobody was asked for")
			}
			return s.Close()
		},
		"the end": (*Session).Close,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guest, host := net.Pipe()
			defer host.Close()
			go func() {
				if f, err := newFrameReader(host).next(); err == nil {
					_, _ = host.Write(appendFrame(nil, frame{session: f.session, kind: welcome, payload: []byte{Version}}))
				}
			}()
			s, err := Open(context.Background(), guest, rand.Reader)
			must(t, err)
			done := make(chan error, 1)
			go func() { done <- use(s) }()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(10 * time.Second):
				t.Error("waits without end")
			}
		})
	}
}

// TestViolations: a guest that does not keep to the protocol is told so, and
// the next session works.
func TestViolations(t *testing.T) {
	t.Parallel()
	p := newPort(t)
	name := session{9}
	begin := frame{session: name, kind: hello, payload: []byte{Version}}
	first := frame{session: name, kind: open, stream: 5}
	full := frame{session: name, kind: data, stream: 5, payload: make([]byte, maxPayload)}
	many := []frame{begin}
	for i := range maxStreams + 1 {
		many = append(many, frame{session: name, kind: open, stream: uint32(i + 1)})
	}
	// More than the window and what the nest's socket holds.
	over := append([]frame{begin, first}, slices.Repeat([]frame{full}, 40)...)
	for what, frames := range map[string][]frame{
		"version":        {{session: name, kind: hello, payload: []byte{2}}},
		"long version":   {{session: name, kind: hello, payload: []byte{1, 1}}},
		"growing":        {begin, first, first},
		"more data than": over,
		"credit that":    {begin, first, {session: name, kind: credit, stream: 5, payload: []byte{0, 0, 0, 1}}},
		"credit":         {begin, first, {session: name, kind: credit, stream: 5, payload: []byte{1}}},
		"kind 77":        {begin, first, {session: name, kind: 77, stream: 5}},
		"over 128":       many,
	} {
		process := p.process(t)
		var b []byte
		for _, f := range frames {
			b = appendFrame(b, f)
		}
		_, err := process.Write(b)
		must(t, err)
		must(t, process.SetReadDeadline(time.Now().Add(10*time.Second)))
		in := newFrameReader(process)
		for {
			f, err := in.next()
			if err != nil {
				t.Fatalf("%s: %v, want to be told", what, err)
			}
			if f.kind == bye && f.session == name {
				if what != "long version" && !strings.Contains(string(f.payload), what) {
					t.Errorf("%s: told %q", what, f.payload)
				}
				break
			}
		}
		must(t, process.Close())
		s := p.session(t)
		must(t, echo(s, []byte("x")))
		must(t, s.Close())
	}
}

// TestHostEnds: Serve ends with its context, whatever the guest does.
func TestHostEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	a, b := net.Pipe() // nobody reads a: every write waits
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, b, func(context.Context) (net.Conn, error) { return nil, errors.New("none") })
	}()
	for i := range 3 {
		_, err := a.Write(appendFrame(nil, frame{session: session{byte(i)}, kind: hello, payload: []byte{Version}}))
		must(t, err)
	}
	cancel()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Error("Serve does not end")
	}
}
