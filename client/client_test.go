package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stork/nestd/api"
	"stork/repo"
)

// fake answers on a guest's socket as no nest would.
func fake(t *testing.T, handler http.HandlerFunc) *Nest {
	t.Helper()
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, api.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close, and says so
	n := Dial(dir, nil)
	t.Cleanup(func() { n.Close(); server.Close(); <-done })
	return n
}

func TestDown(t *testing.T) {
	t.Parallel()
	absent := Dial(t.TempDir(), nil)
	if _, err := absent.Status(context.Background()); !errors.Is(err, ErrDown) {
		t.Errorf("no socket: %v", err)
	}
	dies := fake(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if err := dies.References(context.Background(), nil, nil); !errors.Is(err, ErrDown) {
		t.Errorf("dies while answering: %v", err)
	}
	halfway := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"progress":{"id":"`+repo.DigestOf(nil).String()+`","phase":"waiting","done":0,"total":0}}`+"\n")
	})
	ref := api.PackageRef{ID: repo.DigestOf(nil), Name: "x", Publisher: "alice", Repository: repo.DigestOf(nil)}
	if _, err := halfway.Prepare(context.Background(), api.PrepareRequest{Packages: []api.PackageRef{ref}}, nil); !errors.Is(err, ErrDown) {
		t.Errorf("a stream without its end: %v", err)
	}
	hangs := fake(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := hangs.Status(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDown) {
		t.Errorf("the caller gave up: %v", err)
	}
}

func TestErrorsComeBack(t *testing.T) {
	t.Parallel()
	want := api.Error{Code: api.NoSpace, Message: "cannot prepare x: disk full", Hint: "Free space."}
	n := fake(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := json.Marshal(want) // of strings
		if r.URL.Path == api.PrepareRoute {
			b, _ = json.Marshal(api.Event{Error: &want})
		} else {
			w.WriteHeader(want.Code.Status())
		}
		_, _ = w.Write(append(b, '\n'))
	})
	_, prepareErr := n.Prepare(context.Background(), api.PrepareRequest{Packages: []api.PackageRef{{Name: "x", Publisher: "a", ID: repo.DigestOf(nil), Repository: repo.DigestOf(nil)}}}, nil)
	_, statusErr := n.Status(context.Background())
	for _, err := range []error{prepareErr, statusErr} {
		var wire *api.Error
		if !errors.As(err, &wire) || *wire != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	odd := fake(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	var wire *api.Error
	if _, err := odd.Status(context.Background()); !errors.As(err, &wire) || wire.Code != api.InternalCode {
		t.Errorf("not a nest: %v", err)
	}
}

// TestFetchIsBounded wants no more bytes than asked for, and documents by
// their digest.
func TestFetchIsBounded(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 1000)
	n := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/absent"):
			b, _ := json.Marshal(api.Error{Code: api.NotFound, Message: "no"})
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(b)
		case strings.HasSuffix(r.URL.Path, "/chunked"):
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, text)
		default:
			_, _ = io.WriteString(w, text)
		}
	})
	r, ctx := n.Repository(repo.DigestOf(nil)), context.Background()
	if b, err := r.Fetch(ctx, "x", 1000); err != nil || string(b) != text {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for _, path := range []string{"x", "chunked", "../x"} {
		if b, err := r.Fetch(ctx, path, 999); err == nil {
			t.Errorf("%s: %d bytes", path, len(b))
		}
	}
	if _, err := r.Fetch(ctx, "absent", 1000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	good := repo.ObjectOf([]byte(text))
	if _, err := r.Document(ctx, good); err != nil {
		t.Error(err)
	}
	for _, bad := range []repo.Object{{Digest: good.Digest, Size: 1001}, {Digest: repo.DigestOf(nil), Size: 1000}} {
		if _, err := r.Document(ctx, bad); err == nil {
			t.Errorf("document %v was taken", bad)
		}
	}
}

// TestTrustComesAhead: one request brings many files; each is handed out once,
// and within its bounds.
func TestTrustComesAhead(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	n := fake(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if !strings.HasPrefix(r.URL.Path, api.TrustRoute) {
			_, _ = io.WriteString(w, "later")
			return
		}
		_ = json.NewEncoder(w).Encode(api.Trust{Files: []api.TrustFile{
			{Path: "metadata/2.root.json", Absent: true}, {Path: "metadata/timestamp.json", Content: []byte("ahead")},
		}})
	})
	r, ctx := n.Repository(repo.DigestOf(nil)), context.Background()
	for i, tt := range []struct {
		path, want string
		max        int64
		requests   int64 // so far
	}{
		{"metadata/timestamp.json", "later", 5, 1}, // nothing comes ahead before a root is asked for
		{"metadata/2.root.json", "", 5, 2},
		{"metadata/timestamp.json", "ahead", 5, 2},
		{"metadata/timestamp.json", "later", 5, 3},
		{"metadata/2.root.json", "later", 5, 4},
	} {
		b, err := r.Fetch(ctx, tt.path, tt.max)
		if string(b) != tt.want || errors.Is(err, fs.ErrNotExist) != (tt.want == "") || requests.Load() != tt.requests {
			t.Errorf("%d: %s: %q, %v after %d requests; want %q after %d", i, tt.path, b, err, requests.Load(), tt.want, tt.requests)
		}
	}
	other := n.Repository(repo.DigestOf(nil))
	if _, err := other.Fetch(ctx, "metadata/2.root.json", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if b, err := other.Fetch(ctx, "metadata/timestamp.json", 4); err == nil {
		t.Errorf("over its bound: %q", b)
	}
}

// TestWithoutTrust: a nest that has no such answer is asked for each file.
func TestWithoutTrust(t *testing.T) {
	t.Parallel()
	n := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, api.TrustRoute) {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(api.Error{Code: api.NotFound, Message: "no such route"})
			return
		}
		_, _ = io.WriteString(w, "text")
	})
	if b, err := n.Repository(repo.DigestOf(nil)).Fetch(context.Background(), "metadata/1.root.json", 4); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestConnections: answers that were read to the end leave their connection
// for the next; one that the nest has closed meanwhile is not noticed.
func TestConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, api.SocketName)
	var opened atomic.Int64
	start := func() *http.Server {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }),
			ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			},
		}
		go func() { _ = server.Serve(listener) }() // ends with Close, and says so
		return server
	}
	n := Dial(dir, nil)
	defer n.Close()
	ask := func(want int64) {
		t.Helper()
		if err := n.References(context.Background(), nil, nil); err != nil || opened.Load() != want {
			t.Errorf("%v, %d connections, want %d", err, opened.Load(), want)
		}
	}
	server := start()
	ask(1)
	ask(1)
	answer, err := n.caller.open(context.Background(), http.MethodGet, api.StatusRoute, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(answer.Body.Close(), answer.Body.Close()); err != nil { // not read
		t.Error(err)
	}
	ask(2)
	server.Close()
	server = start()
	defer server.Close()
	ask(3)
}

func TestPrepareCountsEachPackageOnce(t *testing.T) {
	t.Parallel()
	id, other := repo.DigestOf([]byte("1")), repo.DigestOf([]byte("2"))
	n := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, d := range []repo.Digest{id, id, repo.DigestOf([]byte("not asked for"))} {
			b, _ := json.Marshal(api.Event{Prepared: &api.Prepared{ID: d, Private: []repo.File{}}})
			_, _ = w.Write(append(b, '\n'))
		}
	})
	ref := api.PackageRef{ID: id, Name: "x", Publisher: "a", Repository: id}
	got, err := n.Prepare(context.Background(), api.PrepareRequest{Packages: []api.PackageRef{ref, ref}}, nil)
	if err != nil || len(got) != 1 || got[0].ID != id {
		t.Errorf("got %v, %v", got, err)
	}
	second := ref
	second.ID = other
	if _, err := n.Prepare(context.Background(), api.PrepareRequest{Packages: []api.PackageRef{ref, second}}, nil); err == nil {
		t.Error("a package that was never prepared was not missed")
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []string{
		`{"progress":{"id":"` + repo.DigestOf(nil).String() + `","phase":"ready","done":1,"total":2}}`,
		`{"error":{"code":"x","message":"y"}}`, `{}`, `{"error":null}`, `{"prepared":{},"progress":{}}`, `x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		event, err := decodeEvent(line)
		if err == nil && event.Error == nil && event.Prepared == nil && event.Progress == nil {
			t.Error("an event that says nothing")
		}
	})
}
