package nest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bytes"

	"github.com/klauspost/compress/zstd"

	"stork/client/share"
	"stork/fixtures"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/author"
)

// TestMain lets this test binary be the fetcher and the unpacker, which are
// real processes here as in production.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-fetcher":
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			err := fetch.Child(ctx, os.Args[2], slog.New(slog.NewTextHandler(os.Stderr, nil)))
			stop()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "test-placer":
			os.Exit(attach.PlacerMain(os.Stdin, os.Stdout))
		case "test-unpacker":
			os.Exit(unpack.Main(os.Args[2:]))
		case "test-nest":
			runNest(os.Args[2:])
		case "test-guest":
			runGuest(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

// needRoot skips what only root can do.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root, and in CI everything is there")
	}
	t.Skip("needs root")
}

// origin is a repository served over HTTP from a directory, with one
// publisher who is also the owner.
type origin struct {
	t      testing.TB
	tree   string
	online *author.Repository
	alice  *author.Identity
	owner  *author.Identity
	server *httptest.Server
	root   repo.Digest

	index   *index.Tree
	docs    index.Documents
	version int64
	ids     map[string]repo.Digest // package IDs by name

	blobRequests atomic.Int64
	mu           sync.Mutex
	intercept    http.HandlerFunc // before the file server; nil: none
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	dir := t.TempDir()
	o := &origin{t: t, tree: filepath.Join(dir, "tree"), docs: index.Documents{}, ids: map[string]repo.Digest{}}
	var disk durable.Disk
	must(t, disk.MkdirAll(o.tree, 0o755))
	offline, online := filepath.Join(dir, "offline"), filepath.Join(dir, "online")
	root, err := author.InitRepository(author.InitOptions{Tree: o.tree, OfflineDir: offline, OnlineDir: online, Disk: disk})
	must(t, err)
	o.root = root
	o.online, err = author.OpenRepository(o.tree, online, disk, nil)
	must(t, err)
	o.alice, err = author.CreateIdentity(disk, filepath.Join(dir, "keys"), "p-alice", time.Now())
	must(t, err)
	o.owner, err = author.CreateIdentity(disk, filepath.Join(dir, "keys"), "o-alice", time.Now())
	must(t, err)
	must(t, o.online.AddIdentity(offline, author.NewBundle(o.alice, o.owner)))
	o.index, o.docs, err = index.New("alice", root)
	must(t, err)
	files := http.FileServer(http.Dir(o.tree))
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blobs/") {
			o.blobRequests.Add(1)
		}
		o.mu.Lock()
		intercept := o.intercept
		o.mu.Unlock()
		if intercept != nil {
			w = &passing{ResponseWriter: w}
			intercept(w, r)
			if w.(*passing).done {
				return
			}
			w = w.(*passing).ResponseWriter
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(o.server.Close)
	return o
}

// passing notes whether an intercepting handler has answered.
type passing struct {
	http.ResponseWriter
	done bool
}

func (p *passing) WriteHeader(status int)      { p.done = true; p.ResponseWriter.WriteHeader(status) }
func (p *passing) Write(b []byte) (int, error) { p.done = true; return p.ResponseWriter.Write(b) }
func (p *passing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (o *origin) onRequest(h http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.intercept = h
}

// publish adds packages to the index, signs it and shows it.
func (o *origin) publish(specs ...fixtures.Spec) {
	o.t.Helper()
	var entries []index.Entry
	for _, spec := range specs {
		entries = append(entries, o.add(spec, func(*repo.Record) {}))
	}
	o.publishEntries(entries)
}

// publishChanged publishes a package whose record says something else than
// the package.
func (o *origin) publishChanged(spec fixtures.Spec, change func(*repo.Record)) {
	o.t.Helper()
	o.publishEntries([]index.Entry{o.add(spec, change)})
}

func (o *origin) add(spec fixtures.Spec, change func(*repo.Record)) index.Entry {
	o.t.Helper()
	blob := fixtures.MustRPM(o.t, spec)
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	must(o.t, err)
	record, list := pkg.Record, pkg.Files
	listText, _, err := list.Encode()
	must(o.t, err)
	change(record)
	text, id, err := record.Encode()
	must(o.t, err)
	o.write(repo.BlobPath(record.Blob.Digest), blob)
	o.write(repo.DataPath(repo.DigestOf(listText)), listText)
	o.write(repo.DataPath(id), text)
	if pkg.Info != nil {
		o.write(repo.DataPath(pkg.Info.Swarm().Info), pkg.Info.Encode())
	}
	o.ids[spec.Name] = id
	return index.EntryOf(record, repo.ObjectOf(text))
}

func (o *origin) publishEntries(entries []index.Entry) {
	o.t.Helper()
	tree, docs, err := o.index.Extend(context.Background(), entries)
	must(o.t, err)
	for d, text := range docs {
		o.docs[d] = text
	}
	for d, text := range docs {
		o.write(repo.DataPath(d), text)
	}
	o.index = tree
	o.version++
	signed, err := o.alice.SignRole(author.RoleSpec{
		Version: o.version, Expires: time.Now().Add(24 * time.Hour), Repository: o.root,
		Targets: map[string]repo.Object{signing.IndexTarget("alice"): tree.Object},
	})
	must(o.t, err)
	must(o.t, o.online.Publish(context.Background(), "p-alice", signed))
}

func (o *origin) writePack() {
	var pack bytes.Buffer
	z, err := zstd.NewWriter(&pack)
	must(o.t, err)
	for _, list := range [][]repo.Object{o.index.Root.Tables, o.index.Shards()} {
		for _, object := range list {
			_, err := z.Write(o.docs[object.Digest])
			must(o.t, err)
		}
	}
	must(o.t, z.Close())
	o.write(repo.PackPath(o.index.Object.Digest), pack.Bytes())
}

func (o *origin) write(path string, content []byte) {
	full := filepath.Join(o.tree, filepath.FromSlash(path))
	must(o.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(o.t, os.WriteFile(full, content, 0o644))
}

func (o *origin) pin() api.RepositoryPin { return api.RepositoryPin{Root: o.root, URL: o.server.URL} }

func (o *origin) ref(name string) api.PackageRef {
	return api.PackageRef{ID: o.ids[name], Name: repo.Name(name), Publisher: "alice", Repository: o.root}
}

// openNest opens a nest in dir that follows o.
func openNest(t *testing.T, dir string, o *origin, disk durable.Disk) (*Nest, error) {
	t.Helper()
	return openNestAt(context.Background(), dir, o.pin(), disk, testWriter{t})
}

func openNestAt(ctx context.Context, dir string, pin api.RepositoryPin, disk durable.Disk, w io.Writer) (n *Nest, err error) {
	log := slog.New(slog.NewTextHandler(w, nil))
	run := filepath.Join(dir, "run")
	if err := noFaults.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	o := Options{Dir: dir, RunDir: run, Disk: disk, Private: share.Private, Interval: time.Hour, Log: log}
	o.Unpack = unpack.Options{Exe: "/proc/self/exe", Args: []string{"test-unpacker"}, UID: 65534, GID: 65534, Log: log}
	var closers []func() error
	defer func() {
		for i := len(closers) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()
	if o.State, err = state.Open(ctx, state.Options{Path: filepath.Join(dir, "state.db")}); err != nil {
		return nil, err
	}
	closers = append(closers, o.State.Close)
	if err := o.State.AddRepository(ctx, pin); err != nil {
		return nil, err
	}
	if o.Store, err = openStore(ctx, store.Options{Dir: filepath.Join(dir, "store"), Disk: disk, Log: log}); err != nil {
		return nil, err
	}
	closers = append(closers, o.Store.Close)
	if o.Attacher, err = attach.Open(ctx, o.Store.LayersDir(), []string{"/proc/self/exe", "test-placer"}, log); err != nil {
		return nil, err
	}
	closers = append(closers, o.Attacher.Close)
	if o.Fetcher, err = fetch.Start(ctx, fetch.Options{
		Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Log: log,
		Spool: filepath.Join(dir, "spool"), SocketDir: filepath.Join(run, "fetcher"),
		Tuning: web.Tuning{Stall: 2 * time.Second, Backoff: 10 * time.Millisecond, Tries: 3},
	}); err != nil {
		return nil, err
	}
	closers = append(closers, o.Fetcher.Close)
	return Open(ctx, o)
}

// openStore waits for the lock of a nest that was closed just now: a child
// that another test is starting holds a copy of it until its exec.
func openStore(ctx context.Context, o store.Options) (*store.Store, error) {
	for try := 0; ; try++ {
		s, err := store.Open(ctx, o)
		if !errors.Is(err, store.ErrBusy) || try == 100 {
			return s, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func startNest(t *testing.T, o *origin) *Nest {
	t.Helper()
	needRoot(t)
	n, err := openNest(t, t.TempDir(), o, durable.Disk{})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// refreshed refreshes and fails the test if that went wrong.
func refreshed(t *testing.T, n *Nest) api.RepositoryStatus {
	t.Helper()
	list, err := n.Refresh(context.Background())
	must(t, err)
	if len(list) != 1 || list[0].Error != "" {
		t.Fatalf("refresh: %+v", list)
	}
	return list[0]
}

func addGuest(t *testing.T, n *Nest, name string) {
	t.Helper()
	_, err := n.AddGuest(context.Background(), api.GuestRequest{Name: name, Owner: repo.DigestOf([]byte("owner"))})
	must(t, err)
}

// prepare asks for packages and returns what was said, by name.
func prepareAll(n *Nest, guest string, o *origin, names ...string) (map[string]api.Prepared, error) {
	var request api.PrepareRequest
	for _, name := range names {
		request.Packages = append(request.Packages, o.ref(name))
	}
	got := map[string]api.Prepared{}
	err := n.Prepare(context.Background(), guest, request, func(e api.Event) error {
		if e.Prepared != nil {
			for _, name := range names {
				if o.ids[name] == e.Prepared.ID {
					got[name] = *e.Prepared
				}
			}
		}
		return nil
	})
	return got, err
}

// checkSound fails the test if the store is not sound.
func checkSound(t *testing.T, n *Nest) {
	t.Helper()
	report, err := n.Check(context.Background())
	must(t, err)
	if len(report.Problems) > 0 {
		t.Fatalf("store is not sound:\n%s", strings.Join(report.Problems, "\n"))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

var noFaults durable.Disk
