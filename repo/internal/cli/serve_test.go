package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/internal/check"
	"stork/repo/internal/uploadtest"
	"stork/signing"
)

// serving is a real process of stork-repo serve.
type serving struct {
	cmd *exec.Cmd
	uploadtest.Client
}

func serve(t testing.TB, w *uploadtest.World, args ...string) *serving {
	t.Helper()
	// The server says where it listens: a port that was free a moment ago may
	// be that of another test by now.
	path := filepath.Join(w.Home.Dir(), "serving.json")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	s := &serving{cmd: process(append([]string{"serve", w.Home.Dir(), "--listen", "127.0.0.1:0"}, args...)...)}
	s.cmd.Stderr = io.Discard
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	s.Client = uploadtest.Client{HTTP: &http.Client{Transport: &http.Transport{}}}
	for range 500 {
		var said struct{ Address string }
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &said) == nil {
			s.URL = "http://" + said.Address
		}
		if _, err := (source{&s.Client}).Fetch(t.Context(), repo.TimestampPath, repo.MaxTimestamp); err == nil {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server does not answer")
	return nil
}

// kill ends the process as a crash does. Its error says that it was killed.
func (s *serving) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// source reads a server as a nest does.
type source struct{ *uploadtest.Client }

func (s source) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, max+1))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusNotFound:
		return nil, os.ErrNotExist
	case response.StatusCode != http.StatusOK || int64(len(b)) > max:
		return nil, fmt.Errorf("%s: status %d", path, response.StatusCode)
	}
	return b, nil
}

func (s source) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	b, err := s.Fetch(ctx, repo.DataPath(o.Digest), o.Size)
	if err == nil && repo.ObjectOf(b) != o {
		err = errors.New("document does not have its digest")
	}
	return b, err
}

func rpm(t testing.TB, name, version string) []byte {
	t.Helper()
	return fixtures.MustRPM(t, fixtures.Spec{Name: name, Version: version, Files: []fixtures.File{fixtures.Text("/opt/"+name, version)}})
}

func mustBeSound(t *testing.T, w *uploadtest.World) {
	t.Helper()
	report, err := check.Run(context.Background(), w.Home, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
}

// TestKilledServer kills the server at many moments of an upload. Whatever
// was on the way, the next start leaves a sound repository with the old
// state or the new, and the publisher can finish.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorldIn(t, t.TempDir())
	alice := w.Publisher(t, "alice")
	for n := range 8 {
		u := alice.Prepare(t, rpm(t, fmt.Sprintf("pkg%d", n), "1.0"), rpm(t, fmt.Sprintf("other%d", n), "1.0"))
		s := serve(t, w)
		done := make(chan error, 1)
		go func() { _, err := s.Send(t.Context(), u); done <- err }()
		time.Sleep(time.Duration(n*n) * 2 * time.Millisecond)
		s.kill()
		first := <-done
		s = serve(t, w)
		mustBeSound(t, w)
		if _, err := s.Send(t.Context(), u); err != nil {
			t.Fatalf("round %d: %v; when killed: %v", n, err, first)
		}
		alice.Published(u)
		s.kill()
	}
	mustBeSound(t, w)
}

// TestReadersSeeWholeSnapshots reads without pause while two publishers
// upload and the operator renews by hand.
func TestReadersSeeWholeSnapshots(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	publishers := []*uploadtest.Publisher{w.Publisher(t, "alice"), w.Publisher(t, "bob")}
	s := serve(t, w)
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readAll(ctx, t, w, s, publishers) })
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			if out, err := process("refresh", "--dir", w.Home.Dir()).Output(); err != nil {
				t.Errorf("refresh: %v: %s", err, out)
			}
		}
	})
	for _, p := range publishers {
		writers.Go(func() {
			for n := range 6 {
				u := p.Prepare(t, rpm(t, "shared", fmt.Sprint(n)), rpm(t, string(p.Name), fmt.Sprint(n)))
				if _, err := s.Send(t.Context(), u); err != nil {
					t.Errorf("%s: %v", p.Name, err)
					return
				}
				p.Published(u)
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	mustBeSound(t, w)
}

func readAll(ctx context.Context, t *testing.T, w *uploadtest.World, s *serving, publishers []*uploadtest.Publisher) {
	client, err := signing.Open(signing.Options{Dir: t.TempDir(), Root: w.Home.Root, Disk: durable.Disk{}})
	if err != nil {
		t.Error(err)
		return
	}
	src := source{&s.Client}
	for ctx.Err() == nil {
		snapshot, err := client.Refresh(context.WithoutCancel(ctx), src)
		if err != nil {
			t.Errorf("a reader met a broken snapshot: %v", err)
			return
		}
		for _, p := range publishers {
			if err := readIndex(snapshot, src, p); err != nil {
				t.Errorf("a reader met a broken index of %s: %v", p.Name, err)
				return
			}
		}
	}
}

// readIndex reads everything that a publisher has published.
func readIndex(snapshot *signing.Snapshot, src source, p *uploadtest.Publisher) error {
	ctx := context.Background()
	object, err := snapshot.LookupDelegated(ctx, p.Name.PublisherRole(), signing.IndexTarget(p.Name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	tree, err := index.Open(ctx, src, object)
	if err != nil {
		return err
	}
	for n := range tree.Shards() {
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			return err
		}
		for _, e := range shard.Packages {
			if err := readPackage(ctx, src, e); err != nil {
				return fmt.Errorf("%s: %w", e.NEVRA(), err)
			}
		}
	}
	return nil
}

func readPackage(ctx context.Context, src source, e index.Entry) error {
	b, err := src.Document(ctx, e.Record)
	if err != nil {
		return err
	}
	record, err := repo.DecodeRecord(b)
	if err != nil {
		return err
	}
	if _, err := src.Document(ctx, repo.Object{Digest: record.FileList.Digest, Size: record.FileList.Size}); err != nil {
		return err
	}
	blob, err := src.Fetch(ctx, repo.BlobPath(record.Blob.Digest), record.Blob.Size)
	if err == nil && repo.DigestOf(blob) != record.Blob.Digest {
		err = errors.New("the blob does not have its digest")
	}
	return err
}

// TestStops shows that a server told to stop does so with status 0.
func TestStops(t *testing.T) {
	t.Parallel()
	s := serve(t, uploadtest.NewWorld(t))
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestUnprivileged starts as root and serves as nobody.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	if err := os.Chmod(filepath.Dir(w.Home.Dir()), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-R", "nobody", w.Home.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := serve(t, w, "--user", "nobody")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("\nUid:\t65534\t65534\t65534\t65534\n")) {
		t.Errorf("it serves with other rights:\n%s", b)
	}
	if _, err := s.Send(t.Context(), alice.Prepare(t, rpm(t, "hello", "1.0"))); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	refresh := process("refresh", "--dir", w.Home.Dir())
	refresh.Stderr = &out
	if err := refresh.Run(); err == nil || !strings.Contains(out.String(), "sudo -u nobody") {
		t.Errorf("root may write into another user's repository: %v, %s", err, &out)
	}
}

// TestMany uploads STORK_MANY packages at once and prints what that costs
// the server. 60000 is what it is made for.
func TestMany(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("STORK_MANY"))
	if err != nil {
		t.Skip("STORK_MANY says how many packages to upload")
	}
	w := uploadtest.NewWorldIn(t, t.TempDir())
	alice := w.Publisher(t, "alice")
	bulk := fixtures.Bulk{Packages: n + 1}
	packages := make([]uploadtest.Package, n)
	var wait sync.WaitGroup
	for worker := range 2 {
		wait.Go(func() {
			for i := worker; i < n; i += 2 {
				packages[i] = uploadtest.Read(t, fixtures.MustRPM(t, bulk.Spec(i)))
			}
		})
	}
	wait.Wait()
	u := alice.PreparePackages(t, alice.Tree, packages...)
	packages = nil
	s := serve(t, w)
	upload(t, s, u, fmt.Sprintf("%d packages", n))
	alice.Published(u)
	upload(t, s, alice.Prepare(t, fixtures.MustRPM(t, bulk.Spec(n))), "one more")
	mustBeSound(t, w)
}

func upload(t *testing.T, s *serving, u *uploadtest.Upload, what string) {
	t.Helper()
	ctx, began := t.Context(), time.Now()
	session, err := s.Open(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	if _, err := s.Files(ctx, u, session.Session, session.Missing); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	if _, err := s.Commit(ctx, u, session.Session); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(b), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "\n")
	t.Logf("%s, %d objects: open %v, files %v, commit %v, peak memory %s", what, len(u.Objects),
		opened.Sub(began).Round(time.Millisecond), sent.Sub(opened).Round(time.Millisecond), time.Since(sent).Round(time.Millisecond), strings.TrimSpace(peak))
}
