package web_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// quick is patience for tests.
var quick = web.Tuning{Stall: time.Second, MinBytes: 1 << 10, Tries: 3, Backoff: 10 * time.Millisecond}

func newMethod(string) (transfer.Method, error) {
	client, err := web.NewClient(web.ClientOptions{Tuning: quick})
	if err != nil {
		return nil, err
	}
	return web.New(web.Options{Name: "https", Client: client}), nil
}

func TestConformance(t *testing.T) {
	transfertest.Run(t, transfertest.Subject{
		Serve: func(t testing.TB, text []byte, fault transfertest.Fault) (string, transfer.Order) {
			return "", transfer.Order{Places: []string{transfertest.Server(t, text, fault).URL + "/blob"}}
		},
		Method: newMethod,
	})
}

// fetch brings text from places, in two minutes at most: tests may be stopped for a while.
func fetch(t *testing.T, text []byte, pieces *transfer.Pieces, places ...string) (transfer.Progress, error) {
	t.Helper()
	method, err := newMethod("")
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	s := transfer.NewScheduler(transfer.Options{
		Spool: spool, Lanes: []transfer.Lane{{Method: method}}, Jobs: 1, Progress: 1,
		Limits: transfer.NewLimits(transfer.Schedule{}), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got, err := s.Fetch(ctx, transfer.Order{Object: repo.ObjectOf(text), Places: places, Pieces: pieces}, nil)
	if err == nil {
		if b, err := spool.ReadFile(repo.DigestOf(text).Hex()); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%d bytes are in the spool, %v", len(b), err)
		}
	}
	return got, err
}

func used(got transfer.Progress, server *httptest.Server) (n int64) {
	for _, entry := range got.Ledger {
		if "http://"+entry.Address == server.URL {
			n += entry.Used
		}
	}
	return n
}

// TestMirrors wants the blob whatever one of two servers does, and both to
// have served if both can.
func TestMirrors(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(16<<20, 1)
	pieces := &transfer.Pieces{Length: 256 << 10}
	for from := 0; from < len(text); from += 256 << 10 {
		sum := sha1.Sum(text[from : from+256<<10])
		pieces.Sums = append(pieces.Sums, sum[:]...)
	}
	for _, known := range []*transfer.Pieces{nil, pieces} {
		for _, fault := range []transfertest.Fault{
			transfertest.Slow, transfertest.Interrupted, transfertest.Corrupt, transfertest.Short,
			transfertest.Endless, transfertest.Drip, transfertest.Vanishing, transfertest.Absent,
		} {
			for _, bad := range []int{0, 1} {
				t.Run(fmt.Sprintf("%s %d pieces %v", fault, bad, known != nil), func(t *testing.T) {
					t.Parallel()
					servers := [2]*httptest.Server{transfertest.Server(t, text, ""), transfertest.Server(t, text, "")}
					servers[bad] = transfertest.Server(t, text, fault)
					begin := time.Now()
					got, err := fetch(t, text, known, servers[0].URL+"/a", servers[1].URL+"/b")
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("%v, %+v", time.Since(begin), got.Ledger)
					if n := used(got, servers[1-bad]); n < 1<<20 {
						t.Errorf("%d bytes of %d are of the server that works", n, len(text))
					}
					if n := used(got, servers[bad]); n > 0 && (fault == transfertest.Corrupt || fault == transfertest.Endless || fault == transfertest.Absent) {
						t.Errorf("%d bytes are of the server that does not", n)
					}
				})
			}
		}
	}
}

// ranged is what a request asks for, or everything.
func ranged(r *http.Request, size int) (from, to int) {
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
		return 0, size
	}
	return from, to + 1
}

// TestAnswers holds what is strange, and not always wrong, to what must come
// of it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(4<<20, 1)
	var asked atomic.Int64
	content := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}
	partial := func(format string, more int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			from, to := ranged(r, len(text))
			w.Header().Set("Content-Range", fmt.Sprintf(format, from, to-1, len(text)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(text[from : to+more])
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		good    bool
	}{
		"no ranges": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }, true},
		"no ranges, breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			_, _ = w.Write(text[:min(int64(len(text)), asked.Add(1)<<20)])
		}, true},
		"no lengths": {func(w http.ResponseWriter, r *http.Request) {
			from, to := ranged(r, len(text))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(text)))
			w.WriteHeader(http.StatusPartialContent)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(text[from:to])
		}, true},
		"other range":   {partial("bytes %d-%d/99", 0), false},
		"other unit":    {partial("octets %d-%d/%d", 0), false},
		"no range":      {partial("", 0), false},
		"less":          {partial("bytes %d-%d/%d", -1), false},
		"unsatisfiable": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(416) }, false},
		"multipart": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", r.Header.Get("Range")+",5-6")
			content(w, r)
		}, false},
		"not modified":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, false},
		"nothing to say": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.handler)
			defer server.Close()
			got, err := fetch(t, text, nil, server.URL)
			if (err == nil) != test.good {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestRetryAfter wants a server to be left alone as long as it says.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1000, 1)
	var first, second time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		second = time.Now()
		_, _ = w.Write(text)
	}))
	defer server.Close()
	if _, err := fetch(t, text, nil, server.URL); err != nil {
		t.Fatal(err)
	}
	if pause := second.Sub(first); pause < 900*time.Millisecond || pause > 5*time.Second {
		t.Errorf("asked again after %v", pause)
	}
}

// TestDeadServerIsAskedLast wants only the first blob to wait for a server
// that does not answer.
func TestDeadServerIsAskedLast(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(1000, 1)
	var asked atomic.Int64
	dead := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer dead.Close()
	method, err := newMethod("")
	if err != nil {
		t.Fatal(err)
	}
	good := transfertest.Server(t, text, "")
	for n := range 5 {
		spool, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s := transfer.NewScheduler(transfer.Options{Spool: spool, Lanes: []transfer.Lane{{Method: method}}, Limits: transfer.NewLimits(transfer.Schedule{}), Log: slog.New(slog.DiscardHandler)})
		_, err = s.Fetch(t.Context(), transfer.Order{Object: repo.ObjectOf(text), Places: []string{dead.URL, good.URL}}, nil)
		if err := errors.Join(err, spool.Close()); err != nil {
			t.Errorf("blob %d: %v", n, err)
		}
	}
	if n := asked.Load(); n > 6 {
		t.Errorf("the dead server was asked %d times", n)
	}
}

// TestHTTP2 wants ranges of one blob to share a connection where TLS is.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	text := transfertest.Content(8<<20, 1)
	var requests, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			requests.Add(1)
		}
		transfertest.Handler(text, "").ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	if os.Getenv(trustVariable) == "" { // who is trusted is read once in a process
		authority := filepath.Join(t.TempDir(), "authority.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(authority, block, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(t, text, nil, server.URL); err == nil {
			t.Error("a server that nobody vouches for was believed")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHTTP2$")
		cmd.Env = append(os.Environ(), trustVariable+"=1", "SSL_CERT_FILE="+authority, "SSL_CERT_DIR=/nowhere")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if _, err := fetch(t, text, nil, server.URL); err != nil {
		t.Fatal(err)
	}
	if requests.Load() < 4 || connections.Load() > 2 {
		t.Errorf("%d requests over %d connections", requests.Load(), connections.Load())
	}
}

// trustVariable says that this process trusts the test's server.
const trustVariable = "STORK_TEST_TRUST"
