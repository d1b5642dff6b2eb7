package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// TestMain lets this test binary be the fetcher, a real process here as in
// production.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "test-fetcher" {
		if err := Child(context.Background(), os.Args[2], slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("needs root")
	}
}

func start(t *testing.T, dir string, tuning web.Tuning) *Fetcher {
	t.Helper()
	needRoot(t)
	f, err := Start(context.Background(), Options{
		Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Spool: filepath.Join(dir, "spool"), SocketDir: filepath.Join(dir, "s"),
		Tuning: tuning, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	must(t, err)
	return f
}

// quick is patience for tests.
var quick = web.Tuning{Stall: 500 * time.Millisecond, MinBytes: 1 << 10, Tries: 3, Backoff: 10 * time.Millisecond}

func started(t *testing.T) *Fetcher {
	t.Helper()
	f := start(t, t.TempDir(), quick)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(b)
	return b
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// get reads a blob through the fetcher.
func get(f *Fetcher, server *httptest.Server, object repo.Object) ([]byte, int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	file, result, err := f.Blob(ctx, Request{BaseURL: server.URL, Path: "blob", Object: object})
	if err != nil {
		return nil, result.Fetched, err
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	return b, result.Fetched, err
}

func TestChildHasNoPrivileges(t *testing.T) {
	t.Parallel()
	f := started(t)
	if _, err := f.Get(context.Background(), "http://127.0.0.1:1", "x", 1); err == nil { // it has started when it answers
		t.Fatal("somebody listens on port 1")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.PID()))
	must(t, err)
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(b), want+"\n") {
			t.Errorf("the fetcher's status lacks %q", want)
		}
	}
}

func TestBlob(t *testing.T) {
	t.Parallel()
	text := content(3 << 20)
	f := started(t)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	})
	object := repo.ObjectOf(text)
	for n, want := range []int64{object.Size, 0} { // the second time it lies in the spool
		b, fetched, err := get(f, server, object)
		if err != nil || !bytes.Equal(b, text) || fetched != want {
			t.Errorf("try %d: %d bytes, fetched %d, want %d, %v", n, len(b), fetched, want, err)
		}
	}
	must(t, f.Discard(object))
	must(t, f.Discard(object))
	if entries, err := os.ReadDir(f.options.Spool); err != nil || len(entries) != 0 {
		t.Errorf("spool holds %v, %v", entries, err)
	}
}

// TestHostileServers wants an error of the right kind, soon, and nothing of
// it kept.
func TestHostileServers(t *testing.T) {
	t.Parallel()
	text := content(1 << 20)
	object := repo.ObjectOf(text)
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    error
	}{
		"absent":        {http.NotFound, fs.ErrNotExist},
		"refuses":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, ErrUnreachable},
		"always fails":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, ErrUnreachable},
		"wrong content": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, len(text))) }, ErrMismatch},
		"declared too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999999999999")
			_, _ = w.Write(text)
		}, ErrMismatch},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, ErrMismatch},
		"declared too short": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, ErrMismatch},
		"truncates":          {func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() }, ErrUnreachable},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, ErrUnreachable},
		"says nothing": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrUnreachable},
		"redirects for ever": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, ErrUnreachable},
		"redirects to a file": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, ErrUnreachable},
		"lies about ranges": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", fmt.Sprint(len(text)))
				_, _ = w.Write(text[:1000])
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", "bytes 0-10/11")
			w.WriteHeader(http.StatusPartialContent)
		}, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := started(t)
			begin := time.Now()
			b, _, err := get(f, serve(t, test.handler), object)
			if !errors.Is(err, test.want) {
				t.Errorf("got %d bytes, error %v, want %v", len(b), err, test.want)
			}
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
			spooled, statErr := os.Stat(filepath.Join(f.options.Spool, object.Digest.Hex()))
			if statErr == nil && spooled.Size() > object.Size+transfer.MaxMap {
				t.Errorf("%d bytes are spooled of a blob of %d", spooled.Size(), object.Size)
			}
		})
	}
}

// flaky serves text with ranges, but breaks off after a part.
func flaky(text []byte, part int, ranges *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			ranges.Add(1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
			w.Header().Set("Content-Length", fmt.Sprint(len(text)-from))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		end := min(from+part, len(text))
		_, _ = w.Write(text[from:end])
		if end < len(text) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

func TestResumesAfterBreaks(t *testing.T) {
	t.Parallel()
	text := content(1 << 20)
	var ranges atomic.Int64
	f := started(t)
	b, fetched, err := get(f, serve(t, flaky(text, 200<<10, &ranges)), repo.ObjectOf(text))
	if err != nil || !bytes.Equal(b, text) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if fetched != int64(len(text)) || ranges.Load() < 5 {
		t.Errorf("fetched %d bytes of %d with %d ranges: not resumed", fetched, len(text), ranges.Load())
	}
}

// TestResumesAfterRestart leaves files behind that are no blob on its way.
func TestResumesAfterRestart(t *testing.T) {
	t.Parallel()
	text := content(1 << 20)
	object := repo.ObjectOf(text)
	for name, test := range map[string]struct {
		left []byte
		want int64
	}{
		"no map":   {text[:600<<10], int64(len(text))},
		"damaged":  {append(make([]byte, 1), text[1:]...), int64(len(text))},
		"too long": {append(bytes.Clone(text), 'x'), int64(len(text))},
		"whole":    {text, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(dir, "spool"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "spool", object.Digest.Hex()), test.left, 0o600))
			f := start(t, dir, quick)
			defer f.Close()
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
			})
			b, fetched, err := get(f, server, object)
			if err != nil || !bytes.Equal(b, text) || fetched != test.want {
				t.Errorf("%d bytes, fetched %d, want %d, %v", len(b), fetched, test.want, err)
			}
		})
	}
}

// TestKilledAtEveryTenth kills the child with SIGKILL whenever another tenth
// is there: the job goes on in the next one, and little comes twice.
func TestKilledAtEveryTenth(t *testing.T) {
	t.Parallel()
	text := content(8 << 20)
	object := repo.ObjectOf(text)
	f := started(t)
	var sent atomic.Int64
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(countingWriter{w, &sent}, r, "", time.Time{}, &slowReader{Reader: bytes.NewReader(text)})
	})
	kills := 0
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	file, result, err := f.Blob(ctx, Request{BaseURL: server.URL, Path: "blob", Object: object, Progress: func(p Progress) {
		if p.Done >= int64(kills+1)*object.Size/10 {
			kills++
			if err := unix.Kill(f.PID(), unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}})
	must(t, err)
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if kills < 8 {
		t.Errorf("killed %d times", kills)
	}
	t.Logf("%d bytes, %d counted, %d sent, %d kills", object.Size, result.Fetched, sent.Load(), kills)
	// When somebody died, over four connections: a machine that is busy with
	// other tests lets some steps wait there.
	inSockets := int64(kills) * 4 * 4 * slowStep
	if limit := object.Size + object.Size/50 + inSockets; sent.Load() > limit {
		t.Errorf("the server sent %d bytes of %d, over %d", sent.Load(), object.Size, limit)
	}
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// slowReader reads slowStep bytes in 10 ms.
type slowReader struct{ *bytes.Reader }

const slowStep = 32 << 10

func (r *slowReader) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return r.Reader.Read(p[:min(len(p), slowStep)])
}

func TestGet(t *testing.T) {
	t.Parallel()
	f := started(t)
	var requests, bodies atomic.Int64
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tagged":
			requests.Add(1)
			w.Header().Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") == `"1"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			bodies.Add(1)
			_, _ = io.WriteString(w, "tagged")
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		case "/large":
			_, _ = w.Write(make([]byte, 101))
		case "/hangs":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	})
	ctx := context.Background()
	for range 3 {
		b, err := f.Get(ctx, server.URL, "tagged", 100)
		if err != nil || string(b) != "tagged" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if requests.Load() != 3 || bodies.Load() != 1 {
		t.Errorf("%d requests moved %d bodies, want 3 and 1", requests.Load(), bodies.Load())
	}
	for path, want := range map[string]error{
		"absent": fs.ErrNotExist, "endless": ErrTooLarge, "large": ErrTooLarge, "hangs": ErrUnreachable, "short": ErrUnreachable,
	} {
		if b, err := f.Get(ctx, server.URL, path, 100); !errors.Is(err, want) {
			t.Errorf("%s: %d bytes, %v, want %v", path, len(b), err, want)
		}
	}
	if _, err := f.Get(ctx, "file:///etc", "passwd", 1<<20); err == nil {
		t.Error("read a local file")
	}
	if _, err := f.Get(ctx, "http://127.0.0.1:1", "x", 100); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	f := started(t)
	text := bytes.Repeat([]byte("many shards "), 100000)
	encoder, err := zstd.NewWriter(nil)
	must(t, err)
	packed := encoder.EncodeAll(text, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/pack":
			_, _ = w.Write(packed)
		case "/damaged":
			_, _ = w.Write(packed[:len(packed)/2])
		default:
			http.NotFound(w, r)
		}
	})
	read := func(path string, max int64) (got []byte, err error) {
		err = f.Stream(context.Background(), server.URL, path, max, func(r io.Reader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		return got, err
	}
	if got, err := read("pack", int64(len(text))); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, _ := read("pack", 1000); len(got) > 1000 {
		t.Errorf("%d bytes came of 1000", len(got))
	}
	if _, err := read("damaged", int64(len(text))); err == nil {
		t.Error("a damaged stream was taken")
	}
	if _, err := read("absent", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	f := started(t)
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, _, err := f.Blob(ctx, Request{BaseURL: server.URL, Path: "x", Object: repo.Object{Size: 10}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}
