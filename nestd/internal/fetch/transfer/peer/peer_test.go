package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// quick is patience for tests.
var quick = web.Tuning{Stall: time.Second, MinBytes: 1 << 10, Tries: 3, Backoff: 10 * time.Millisecond}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	transfertest.Run(t, transfertest.Subject{
		Serve: func(t testing.TB, text []byte, fault transfertest.Fault) (string, transfer.Order) {
			if fault == transfertest.Healthy {
				return started(t, Config{Networks: loopback}, text), transfer.Order{}
			}
			return strings.TrimPrefix(transfertest.Server(t, text, fault).URL, "http://"), transfer.Order{}
		},
		Method: func(address string) (transfer.Method, error) {
			client, err := NewClient(Config{Peers: []string{address}, Networks: loopback}, quick)
			if err != nil {
				return nil, err
			}
			return client.Method(), nil
		},
	})
}

// started serves files until the test ends, and returns the server's address.
func started(t testing.TB, c Config, files ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, repo.DigestOf(text).Hex()), text, 0o600))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &Server{
		Config: c, Limit: rate.NewLimiter(rate.Inf, transfer.PaceBytes), Log: slog.New(slog.DiscardHandler),
		Open: func(d repo.Digest) (*os.File, error) { return os.Open(filepath.Join(dir, d.Hex())) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return listener.Addr().String()
}

func TestServer(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(100<<10, 1)
	address := started(t, Config{Networks: loopback}, text)
	good := path(repo.DigestOf(text))
	for name, test := range map[string]struct {
		method, path, ranges string
		status, size         int
	}{
		"whole":          {"GET", good, "", 200, 100 << 10},
		"part":           {"GET", good, "bytes=100-199", 206, 100},
		"head":           {"HEAD", good, "", 200, 0},
		"two parts":      {"GET", good, "bytes=0-1,3-4", 416, 0},
		"behind the end": {"GET", good, "bytes=999999-", 416, 0},
		"post":           {"POST", good, "", 404, 0},
		"another":        {"GET", path(repo.Digest{}), "", 404, 0},
		"directory":      {"GET", "/objects/", "", 404, 0},
		"upwards":        {"GET", "/objects/../../etc/passwd", "", 404, 0},
		"capitals":       {"GET", strings.ToUpper(good), "", 404, 0},
		"root":           {"GET", "/", "", 404, 0},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest(test.method, "http://"+address+test.path, nil)
			must(t, err)
			if test.ranges != "" {
				request.Header.Set("Range", test.ranges)
			}
			answer, err := http.DefaultTransport.RoundTrip(request)
			must(t, err)
			defer answer.Body.Close()
			b, err := io.ReadAll(answer.Body)
			must(t, err)
			if answer.StatusCode != test.status || test.status < 300 && len(b) != test.size {
				t.Errorf("%s, %d bytes", answer.Status, len(b))
			}
		})
	}
}

// TestStrangers wants nobody answered, and nobody asked, outside of the
// networks.
func TestStrangers(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1000, 1)
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	address := started(t, Config{Networks: elsewhere}, text)
	if answer, err := http.Get("http://" + address + path(repo.DigestOf(text))); err == nil {
		answer.Body.Close()
		t.Errorf("a stranger was answered: %s", answer.Status)
	}
	address = started(t, Config{Networks: loopback}, text)
	for _, networks := range [][]netip.Prefix{elsewhere, loopback} {
		client, err := NewClient(Config{Peers: []string{address}, Networks: networks}, quick)
		must(t, err)
		got, ok := client.Document(t.Context(), repo.DigestOf(text), 1000)
		if want := networks[0] == loopback[0]; ok != want || ok && !bytes.Equal(got, text) {
			t.Errorf("in %v: %d bytes, %v", networks, len(got), ok)
		}
	}
}

// TestDocument wants what peers say to be checked, and the next one asked.
func TestDocument(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1000, 1)
	var peers []string
	for _, fault := range []transfertest.Fault{transfertest.Corrupt, transfertest.Short, transfertest.Endless, ""} {
		peers = append(peers, strings.TrimPrefix(transfertest.Server(t, text, fault).URL, "http://"))
	}
	client, err := NewClient(Config{Peers: peers, Networks: loopback}, quick)
	must(t, err)
	for d, max := range map[repo.Digest]int64{repo.DigestOf(text): 1000, {}: 1000} {
		if got, ok := client.Document(t.Context(), d, max); ok != (d != repo.Digest{}) || ok && !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", d, len(got), ok)
		}
	}
	if _, ok := client.Document(t.Context(), repo.DigestOf(text), 999); ok {
		t.Error("more than was allowed was taken")
	}
}

// TestConnectionsAreBounded wants one address to have some, and the others to
// be hung up on at once.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1000, 1)
	address := started(t, Config{Networks: loopback, Connections: 3}, text)
	var open []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path(repo.DigestOf(text)))
		must(t, err)
		_, err = io.ReadFull(conn, make([]byte, 1000))
		must(t, err)
		open = append(open, conn)
	}
	get := func() error {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path(repo.DigestOf(text)), nil)
		must(t, err)
		answer, err := transport.RoundTrip(request)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	if get() == nil {
		t.Error("a fourth was let in")
	}
	open[0].Close()
	for begin := time.Now(); get() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("who left still counts")
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Listen: "127.0.0.1:8760", Networks: loopback}, {Peers: []string{"a:1", "[::1]:2"}, Networks: loopback}} {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Config{
		{Listen: "127.0.0.1:8760"}, {Peers: []string{"a:1"}}, {Peers: []string{"a"}, Networks: loopback}, {Listen: "x", Networks: loopback},
		{Listen: ":1", Networks: []netip.Prefix{{}}}, {Listen: ":1", Networks: loopback, Connections: -1},
	} {
		if c.Check() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestPlaces wants dead peers to be asked no more for a while.
func TestPlaces(t *testing.T) {
	t.Parallel()
	client, err := NewClient(Config{Peers: []string{"127.0.0.1:1", "127.0.0.2:1"}, Networks: loopback}, quick)
	must(t, err)
	if got := client.places(repo.Digest{1}); len(got) != 2 {
		t.Errorf("places: %v", got)
	}
	if _, ok := client.Document(t.Context(), repo.Digest{1}, 10); ok {
		t.Error("somebody has it")
	}
	if got := client.places(repo.Digest{1}); len(got) != 0 {
		t.Errorf("places: %v", got)
	}
	if err := (&Server{Config: Config{Listen: "256.0.0.1:1"}}).Serve(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("serve: %v", err)
	}
}
