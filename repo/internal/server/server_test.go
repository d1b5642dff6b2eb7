package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/internal/check"
	"stork/repo/internal/ingest"
	"stork/repo/internal/server"
	"stork/repo/internal/uploadtest"
	"stork/signing"
)

// start serves a world on the loopback until the test ends.
func start(t *testing.T, w *uploadtest.World, change func(*server.Options)) *uploadtest.Client {
	t.Helper()
	opts := server.Options{Home: w.Home, Log: uploadtest.Quiet(), Processors: 2}
	if change != nil {
		change(&opts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := server.New(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Close()
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &uploadtest.Client{URL: "http://" + l.Addr().String(), HTTP: &http.Client{Transport: transport}}
}

func rpm(t testing.TB, name, version string) []byte {
	t.Helper()
	return fixtures.MustRPM(t, fixtures.Spec{
		Name: name, Version: version, Requires: []string{"/bin/sh"},
		Files: []fixtures.File{fixtures.Program("/usr/bin/"+name, "#!/bin/sh\necho "+version+"\n"), fixtures.Text("/usr/share/"+name+"/data", version)},
	})
}

// web is a signing.Source and index.Source over HTTP.
type web struct{ *uploadtest.Client }

func (w web) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := w.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, max+1))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusNotFound:
		return nil, fs.ErrNotExist
	case response.StatusCode != http.StatusOK || int64(len(b)) > max:
		return nil, fmt.Errorf("status %d, %d bytes", response.StatusCode, len(b))
	}
	return b, nil
}

func (w web) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	b, err := w.Fetch(ctx, repo.DataPath(o.Digest), o.Size)
	if err == nil && repo.ObjectOf(b) != o {
		err = errors.New("document does not have its digest")
	}
	return b, err
}

// follower reads a repository as a nest does.
func follower(t testing.TB, w *uploadtest.World) *signing.Client {
	t.Helper()
	c, err := signing.Open(signing.Options{Dir: t.TempDir(), Root: w.Home.Root, Disk: durable.Disk{}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// see returns the publisher's index as readers see it.
func see(ctx context.Context, c *signing.Client, src web, p *uploadtest.Publisher) (*index.Tree, error) {
	snapshot, err := c.Refresh(ctx, src)
	if err != nil {
		return nil, err
	}
	object, err := snapshot.Lookup(ctx, p.Index.Pin(), signing.IndexTarget(p.Name))
	if err != nil {
		return nil, err
	}
	return index.Open(ctx, src, object)
}

func mustBeSound(t *testing.T, w *uploadtest.World) *check.Report {
	t.Helper()
	report, err := check.Run(context.Background(), w.Home, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("check: %s", p)
	}
	return report
}

func TestUploadIsServed(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	c := start(t, w, nil)
	first := rpm(t, "hello", "1.0")
	for step, blobs := range [][][]byte{{first, rpm(t, "world", "1.0")}, {rpm(t, "hello", "2.0")}, {rpm(t, "hello", "0.9")}} {
		u := alice.Prepare(t, blobs...)
		result, err := c.Send(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(step + 1); result.Version != want {
			t.Errorf("published version %d, want %d", result.Version, want)
		}
		alice.Published(u)
	}
	src, ctx := web{c}, t.Context()
	tree, err := see(ctx, follower(t, w), src, alice)
	if err != nil {
		t.Fatal(err)
	}
	finder, err := index.Find(ctx, src, tree.Object)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := finder.Named(ctx, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("readers see %d versions of hello, want 3", len(entries))
	}
	got, err := src.Fetch(ctx, repo.BlobPath(repo.DigestOf(first)), 1<<20)
	if err != nil || !bytes.Equal(got, first) {
		t.Errorf("the blob comes back as %d bytes and %v, want %d bytes", len(got), err, len(first))
	}
	if report := mustBeSound(t, w); report.Packages != 4 || report.Blobs != 4 {
		t.Errorf("check saw %d packages and %d blobs, want 4 and 4", report.Packages, report.Blobs)
	}
	assertStats(t, c, int64(len(first)), 1)
}

func assertStats(t *testing.T, c *uploadtest.Client, blobBytes, blobRequests int64) {
	t.Helper()
	b, err := web{c}.Fetch(t.Context(), "v1/stats", 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	var stats server.Stats
	if err := repo.DecodeStrict(b, &stats); err != nil {
		t.Fatal(err)
	}
	if stats.BlobBytes != blobBytes || stats.BlobRequests != blobRequests || stats.MetaBytes == 0 {
		t.Errorf("stats are %+v, want %d bytes of blobs in %d requests", stats, blobBytes, blobRequests)
	}
}

// TestRealPackages publishes packages as distributions build them.
func TestRealPackages(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	c := start(t, w, nil)
	var blobs [][]byte
	seen := map[repo.NEVRA]bool{}
	for _, path := range fixtures.RealRPMs(t) {
		b, nevra, ok := readable(t, path)
		if ok && !seen[nevra] {
			seen[nevra] = true
			blobs = append(blobs, b)
		}
	}
	if len(blobs) == 0 {
		t.Fatal("none of the real packages can be read") // that there are none skips above
	}
	u := alice.Prepare(t, blobs...)
	if _, err := c.Send(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, w)
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	c := start(t, w, nil)
	u := alice.Prepare(t, rpm(t, "hello", "1.0"))
	first, err := c.Send(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Send(t.Context(), u)
	if err != nil {
		t.Fatalf("one who lost the answer may not ask again: %v", err)
	}
	if again != first {
		t.Errorf("the second answer is %+v, the first was %+v", again, first)
	}
	mustBeSound(t, w)
}

// TestRestartKeepsUploads shows that what has arrived need not be sent again.
func TestRestartKeepsUploads(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	u := alice.Prepare(t, rpm(t, "hello", "1.0"), rpm(t, "world", "1.0"))
	var sent repo.Digest
	t.Run("before", func(t *testing.T) {
		c := start(t, w, nil)
		session, err := c.Open(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		sent = session.Missing[0]
		if _, err := c.Files(t.Context(), u, session.Session, session.Missing[:1]); err != nil {
			t.Fatal(err)
		}
	})
	c := start(t, w, nil)
	session, err := c.Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if len(session.Missing) != len(u.Objects)-1 {
		t.Errorf("%d objects are missing, want %d: all but %s", len(session.Missing), len(u.Objects)-1, sent)
	}
	if _, err := c.Send(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, w)
}

func TestOneServerAtATime(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	start(t, w, nil)
	_, err := server.New(t.Context(), server.Options{Home: w.Home, Log: uploadtest.Quiet()})
	if err == nil {
		t.Fatal("a second server may serve the same repository")
	}
}

func TestStaticFiles(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	c := start(t, w, nil)
	blob := rpm(t, "hello", "1.0")
	u := alice.Prepare(t, blob)
	if _, err := c.Send(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	path := "/" + repo.BlobPath(repo.DigestOf(blob))
	tests := []struct {
		name, method, path string
		header             http.Header
		status             int
		cache              string
		length             int
	}{
		{"whole", "GET", path, nil, 200, "immutable", len(blob)},
		{"head", "HEAD", path, nil, 200, "immutable", 0},
		{"range", "GET", path, http.Header{"Range": {"bytes=10-19"}}, 206, "immutable", 10},
		{"range past the end", "GET", path, http.Header{"Range": {"bytes=99999999-"}}, 416, "", -1},
		{"known", "GET", path, http.Header{"If-None-Match": {`"` + repo.DigestOf(blob).Hex() + `"`}}, 304, "immutable", 0},
		{"timestamp", "GET", "/metadata/timestamp.json", nil, 200, "no-cache", -1},
		{"root", "GET", "/metadata/1.root.json", nil, 200, "immutable", -1},
		{"next root", "GET", "/metadata/2.root.json", nil, 404, "no-store", -1},
		{"listing", "GET", "/metadata/", nil, 404, "no-store", -1},
		{"directory", "GET", "/blobs/" + repo.DigestOf(blob).Hex()[:2], nil, 404, "no-store", -1},
		{"out of the tree", "GET", "/metadata/..%2f..%2fonline%2f", nil, 404, "no-store", -1},
		{"settings", "GET", "/repository.json", nil, 404, "", -1},
		{"upload by get", "GET", "/upload/p-alice", nil, 405, "", -1},
		{"page", "GET", "/", nil, 200, "no-cache", -1},
		{"metrics", "GET", "/metrics", nil, 200, "", -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, c.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = test.header
			response, err := c.HTTP.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			b, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			if got := response.Header.Get("Cache-Control"); !strings.Contains(got, test.cache) {
				t.Errorf("Cache-Control is %q, want %q", got, test.cache)
			}
			if test.length >= 0 && len(b) != test.length {
				t.Errorf("%d bytes, want %d", len(b), test.length)
			}
		})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	w.Publisher(t, "alice")
	c := start(t, w, nil)
	b, err := web{c}.Fetch(t.Context(), "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{w.Home.Root.String(), "alice", "stork repo add " + c.URL + " --root " + w.Home.Root.String()} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestRenewal lets the clock run: the server renews what would expire.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	before, err := w.Home.Versions()
	if err != nil {
		t.Fatal(err)
	}
	later := w.At(t, func() time.Time { return time.Now().Add(6 * 24 * time.Hour) })
	start(t, w, func(o *server.Options) { o.Home = later })
	after, err := w.Home.Versions()
	if err != nil {
		t.Fatal(err)
	}
	if after.Timestamp <= before.Timestamp || after.Snapshot <= before.Snapshot {
		t.Errorf("versions were %+v and are %+v", before, after)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	u := alice.Prepare(t, rpm(t, "hello", "1.0"))
	for name, limits := range map[string]ingest.Limits{
		"objects": {Objects: len(u.Objects) - 1}, "bytes": {Bytes: 100}, "request": {Request: 64},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, w, func(o *server.Options) { o.Limits = limits })
			_, err := c.Open(t.Context(), u)
			wantCode(t, err, "too-large")
		})
	}
}
