package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stork/client"
	"stork/client/share"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/nest"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
)

// TestMain lets this test binary be the fetcher.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "test-fetcher" {
		if err := fetch.Child(context.Background(), os.Args[2], slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
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

// daemon is a whole nest, without a repository, on its sockets.
type daemon struct {
	dir      string
	nest     *nest.Nest
	server   *Server
	operator *client.Operator
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	return openDaemon(t, dir)
}

func openDaemon(t *testing.T, dir string) *daemon {
	t.Helper()
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	st, err := state.Open(ctx, state.Options{Path: filepath.Join(dir, "state.db")})
	must(t, err)
	objects, err := store.Open(ctx, store.Options{Dir: filepath.Join(dir, "store"), Log: log})
	must(t, err)
	attacher, err := attach.Open(ctx, objects.LayersDir(), []string{"/bin/false"}, log)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "run"), 0o711))
	fetcher, err := fetch.Start(ctx, fetch.Options{
		Args: []string{"test-fetcher"}, UID: 65534, GID: 65534, Log: log,
		Spool: filepath.Join(dir, "spool"), SocketDir: filepath.Join(dir, "run", "f"),
	})
	must(t, err)
	n, err := nest.Open(ctx, nest.Options{
		Dir: dir, RunDir: filepath.Join(dir, "run"), State: st, Store: objects, Fetcher: fetcher, Attacher: attacher,
		Unpack: unpack.Options{Exe: "/bin/false", Log: log}, Private: share.Private, Log: log,
	})
	must(t, err)
	d := &daemon{dir: dir, nest: n}
	socket := filepath.Join(dir, "run", "operator.sock")
	d.server, err = Open(ctx, Options{Nest: n, OperatorSocket: socket, Log: log})
	must(t, err)
	d.operator = client.DialOperator(socket)
	t.Cleanup(func() {
		d.operator.Close()
		must(t, errors.Join(d.server.Close(), d.nest.Close()))
	})
	return d
}

var owner = repo.DigestOf([]byte("owner"))

func (d *daemon) addGuest(t *testing.T, name string) *client.Nest {
	t.Helper()
	g, err := d.operator.AddGuest(context.Background(), api.GuestRequest{Name: name, Owner: owner})
	must(t, err)
	c := client.Dial(g.Directory, nil)
	t.Cleanup(c.Close)
	return c
}

func codeOf(err error) api.Code {
	var wire *api.Error
	if errors.As(err, &wire) {
		return wire.Code
	}
	return ""
}

func TestOperatorAndGuest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := startDaemon(t)
	guest := d.addGuest(t, "g1")
	status, err := guest.Status(ctx)
	must(t, err)
	if status.Guest != "g1" || status.Owner != owner || len(status.Repositories) != 0 {
		t.Errorf("guest's status: %+v", status)
	}
	all, err := d.operator.Guests(ctx)
	must(t, err)
	if len(all) != 1 || all[0].Name != "g1" {
		t.Errorf("guests: %+v", all)
	}
	nestStatus, err := d.operator.Status(ctx)
	must(t, err)
	if nestStatus.PID != os.Getpid() || nestStatus.Guests != 1 {
		t.Errorf("status: %+v", nestStatus)
	}
	if stats, err := d.operator.StoreStats(ctx); err != nil || stats.Layers != 0 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	if report, err := d.operator.StoreCheck(ctx); err != nil || report.Problems == nil || len(report.Problems) != 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
	if list, err := d.operator.Refresh(ctx); err != nil || len(list) != 0 {
		t.Errorf("refresh: %+v, %v", list, err)
	}
	must(t, d.operator.RemoveGuest(ctx, "g1"))
	if err := d.operator.RemoveGuest(ctx, "g1"); codeOf(err) != api.NotFound {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := guest.Status(ctx); !errors.Is(err, client.ErrDown) {
		t.Errorf("a removed guest's socket: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := startDaemon(t)
	guest := d.addGuest(t, "g1")
	id := repo.DigestOf([]byte("package"))
	ref := api.PackageRef{ID: id, Name: "x", Publisher: "alice", Repository: id}
	errorOf := func(_ any, err error) error { return err }
	for name, test := range map[string]struct {
		err  error
		want api.Code
	}{
		"unknown repository": {errorOf(guest.Prepare(ctx, api.PrepareRequest{Packages: []api.PackageRef{ref}}, nil)), api.NotFound},
		"too many packages":  {errorOf(guest.Prepare(ctx, api.PrepareRequest{Packages: make([]api.PackageRef, nest.MaxPackages+1)}, nil)), api.BadRequest},
		"unknown index":      {errorOf(guest.Query(ctx, api.QueryRequest{Queries: []api.Query{{Index: id, Kind: api.ByName, Terms: []string{"x"}}}})), api.NotFound},
		"unknown kind":       {errorOf(guest.Query(ctx, api.QueryRequest{Queries: []api.Query{{Index: id, Kind: "x"}}})), api.NotFound},
		"too many queries":   {errorOf(guest.Query(ctx, api.QueryRequest{Queries: make([]api.Query, nest.MaxQueries+1)})), api.TooLarge},
		"not prepared":       {errorOf(guest.Attach(ctx, api.AttachRequest{Packages: []repo.Digest{id}})), api.NotEntitled},
		"relative view":      {errorOf(guest.Attach(ctx, api.AttachRequest{View: "run/stork"})), api.BadRequest},
		"own namespace":      {errorOf(guest.Attach(ctx, api.AttachRequest{})), api.NotEntitled},
		"environment of what is not prepared": {
			errorOf(guest.Environment(ctx, api.EnvironmentRequest{Packages: []repo.Digest{id}})), api.NotEntitled},
		"environment with a relative view": {errorOf(guest.Environment(ctx, api.EnvironmentRequest{View: "view"})), api.BadRequest},
		"environment with a bad alias": {
			errorOf(guest.Environment(ctx, api.EnvironmentRequest{Aliases: map[string]string{"/": "/usr"}})), api.BadRequest},
		"too many to keep": {
			errorOf(guest.Environment(ctx, api.EnvironmentRequest{Keep: make([]repo.Digest, api.MaxKeep+1)})), api.TooLarge},
		"upper in own namespace":                     {errorOf(guest.Upper(ctx, api.UpperRequest{})), api.NotEntitled},
		"upper with a relative view":                 {errorOf(guest.Upper(ctx, api.UpperRequest{View: "view"})), api.BadRequest},
		"placement for who is not registered for it": {guest.Placement(ctx, api.PlacementRequest{}), api.NotEntitled},
		"bad guest name":                             {errorOf(d.operator.AddGuest(ctx, api.GuestRequest{Name: "../x", Owner: owner})), api.BadRequest},
		"no owner":                                   {errorOf(d.operator.AddGuest(ctx, api.GuestRequest{Name: "x"})), api.BadRequest},
		"long guest name":                            {errorOf(d.operator.AddGuest(ctx, api.GuestRequest{Name: strings.Repeat("x", 65), Owner: owner})), api.BadRequest},
		"guest with other owner": {
			errorOf(d.operator.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: id})), api.Conflict},
	} {
		if got := codeOf(test.err); got != test.want {
			t.Errorf("%s: code %q (%v), want %q", name, got, test.err, test.want)
		}
	}
	must(t, guest.References(ctx, []repo.Digest{id}, nil)) // from elsewhere: not the nest's to keep
	if g, err := d.operator.Guests(ctx); err != nil || g[0].Packages != 0 {
		t.Errorf("guests: %+v, %v", g, err)
	}
}

// TestPlacementRefusals: what no client sends is refused before any process
// is started for it; and who asks from the nest's own namespace.
func TestPlacementRefusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := startDaemon(t)
	guest := d.addGuest(t, "g1")
	yes, no := true, false
	register := func(placement *bool) *api.Guest {
		g, err := d.operator.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: owner, Placement: placement})
		must(t, err)
		return g
	}
	if g := register(&yes); !g.Placement {
		t.Error("not registered for placement")
	}
	if g := register(nil); !g.Placement {
		t.Error("the same guest again, without a word of placement, loses it")
	}
	if status, err := guest.Status(ctx); err != nil || !status.Placement {
		t.Errorf("status %+v, %v", status, err)
	}
	id := repo.DigestOf([]byte("package"))
	one := func(c api.MountChange) api.PlacementRequest {
		return api.PlacementRequest{Changes: []api.MountChange{c}}
	}
	for name, test := range map[string]struct {
		request api.PlacementRequest
		want    api.Code
	}{
		"too many":          {api.PlacementRequest{Changes: make([]api.MountChange, api.MaxMountChanges+1)}, api.TooLarge},
		"a relative view":   {api.PlacementRequest{View: "view"}, api.BadRequest},
		"unknown kind":      {one(api.MountChange{Kind: "bind", Path: "/x"}), api.BadRequest},
		"no kind":           {one(api.MountChange{Path: "/x"}), api.BadRequest},
		"relative path":     {one(api.MountChange{Kind: api.MountClear, Path: "x"}), api.BadRequest},
		"dot dot":           {one(api.MountChange{Kind: api.MountClear, Path: "/a/../x"}), api.BadRequest},
		"the root":          {one(api.MountChange{Kind: api.MountClear, Path: "/"}), api.BadRequest},
		"NUL":               {one(api.MountChange{Kind: api.MountClear, Path: "/x\x00"}), api.BadRequest},
		"a long path":       {one(api.MountChange{Kind: api.MountClear, Path: "/" + strings.Repeat("x/", 2048) + "x"}), api.BadRequest},
		"out of the layer":  {one(api.MountChange{Kind: api.MountPlace, Path: "/x", Layer: id, Source: "/../x"}), api.BadRequest},
		"no source":         {one(api.MountChange{Kind: api.MountPlace, Path: "/x", Layer: id}), api.BadRequest},
		"removed by layer":  {one(api.MountChange{Kind: api.MountRemove, Path: "/x", Layer: id}), api.BadRequest},
		"not prepared":      {one(api.MountChange{Kind: api.MountPlace, Path: "/x", Layer: id, Source: "/x"}), api.NotEntitled},
		"nest's namespace":  {one(api.MountChange{Kind: api.MountClear, Path: "/x"}), api.NotEntitled},
		"nothing but there": {api.PlacementRequest{}, api.NotEntitled},
	} {
		if err := guest.Placement(ctx, test.request); codeOf(err) != test.want {
			t.Errorf("%s: code %q (%v), want %q", name, codeOf(err), err, test.want)
		}
	}
	register(&no)
	err := guest.Placement(ctx, one(api.MountChange{Kind: api.MountPlace, Path: "/x", Layer: id, Source: "/x"}))
	if codeOf(err) != api.NotEntitled || !strings.Contains(err.Error(), "registered") {
		t.Errorf("after it was taken back: %v", err)
	}
}

// raw sends a request as it stands.
func raw(t *testing.T, socket, request string) (int, api.Error) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)
	b, err := io.ReadAll(conn)
	must(t, err)
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	var status int
	_, err = fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	must(t, err)
	var wire api.Error
	_ = json.Unmarshal([]byte(body), &wire) // an answer of net/http itself is no JSON
	return status, wire
}

func TestRawRequests(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	d.addGuest(t, "g1")
	socket := d.nest.SocketPath("g1")
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	for name, test := range map[string]struct {
		request string
		status  int
		code    api.Code
	}{
		"operator's route":   {"GET /v1/operator/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, api.NotFound},
		"unknown route":      {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, api.NotFound},
		"wrong method":       {"PUT /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, api.NotFound},
		"not JSON":           {post("/v1/query", "x"), 400, api.BadRequest},
		"unknown field":      {post("/v1/query", `{"queries":[],"x":1}`), 400, api.BadRequest},
		"trailing data":      {post("/v1/query", `{"queries":[]} {}`), 400, api.BadRequest},
		"empty body":         {post("/v1/prepare", ""), 400, api.BadRequest},
		"bad digest":         {post("/v1/detach", `{"packages":["sha256:x"],"view":"/run/stork/view"}`), 400, api.BadRequest},
		"bad repository":     {"GET /v1/repositories/xyz/metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, api.BadRequest},
		"unknown repository": {"GET /v1/repositories/" + owner.Hex() + "/metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, api.NotFound},
		"no HTTP":            {"hello\r\n\r\n", 400, ""},
		"body too large": {fmt.Sprintf("POST /v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", largeBody+2) +
			strings.Repeat(" ", largeBody+2), 400, api.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, wire := raw(t, socket, test.request)
			if status != test.status || wire.Code != test.code {
				t.Errorf("got %d %q %q, want %d %q", status, wire.Code, wire.Message, test.status, test.code)
			}
		})
	}
}

// TestConnectionsAreLimited opens more connections than there are places: the
// other guest does not notice.
func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	d.addGuest(t, "greedy")
	modest := d.addGuest(t, "modest")
	for range guestConnections + 20 {
		conn, err := net.DialTimeout("unix", d.nest.SocketPath("greedy"), 5*time.Second)
		must(t, err)
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := modest.Status(ctx); err != nil {
		t.Error(err)
	}
}

func TestSocketModes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	d.addGuest(t, "own")
	_, err := d.operator.AddGuest(context.Background(), api.GuestRequest{Name: "host", Owner: owner, HostUserNS: true})
	must(t, err)
	for path, want := range map[string]os.FileMode{
		d.server.options.OperatorSocket: 0o600, d.nest.SocketPath("own"): 0o666, d.nest.SocketPath("host"): 0o600,
		filepath.Join(d.dir, "run", "guests"): 0o700,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	s := &Server{options: Options{Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}}
	handler := s.mux("g1", []route{{http.MethodGet, "/panic", 0, func(*call) (any, error) { panic("defect") }}}, make(chan struct{}, 1))
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	defer server.Close()
	for range 2 { // the place is given back
		status, wire := raw(t, socket, "GET /panic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if status != http.StatusInternalServerError || wire.Code != api.InternalCode {
			t.Errorf("got %d %+v", status, wire)
		}
	}
}
