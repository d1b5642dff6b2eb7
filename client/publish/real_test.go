package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"stork/client/publish"
	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/signing/author"
)

// TestRealRepository publishes to the real stork-repo: packages that depend
// on each other, more of them, one that is refused, and a renewal.
func TestRealRepository(t *testing.T) {
	t.Parallel()
	program := filepath.Join(os.Getenv("STORK_BIN"), "stork-repo")
	if _, err := os.Stat(program); os.Getenv("STORK_BIN") == "" || err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("STORK_BIN has no stork-repo: make test sets it")
		}
		t.Skip("STORK_BIN has no stork-repo: make test sets it")
	}
	p := realRepository(t, program)
	packages := t.TempDir()
	files, err := fixtures.Bulk{Seed: 3, Packages: 200}.WriteTo(packages)
	if err != nil {
		t.Fatal(err)
	}
	for version, batch := range [][]string{files[:150], files[100:], nil} {
		plan, err := p.Plan(context.Background(), batch, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Submit(context.Background(), plan, nil)
		plan.Close()
		if err != nil {
			t.Fatal(err)
		}
		if plan.Result.Version != int64(version+1) {
			t.Errorf("version %d is published, want %d", plan.Result.Version, version+1)
		}
	}
	changed := fixtures.Bulk{Seed: 3}.Spec(5)
	changed.Summary = "Something else"
	path := filepath.Join(packages, "changed.rpm")
	if err := os.WriteFile(path, fixtures.MustRPM(t, changed), 0o600); err != nil {
		t.Fatal(err)
	}
	var wire *api.Error
	if _, err := p.Plan(context.Background(), []string{path}, nil); !errors.As(err, &wire) || wire.Code != api.Conflict {
		t.Errorf("got %v, want other content under a taken version refused", err)
	}
	second := *p
	second.Dir = t.TempDir()
	if _, to, err := second.Adopt(context.Background()); err != nil || to != 3 {
		t.Errorf("a second machine adopted version %d: %v", to, err)
	}
}

// realRepository starts stork-repo with one publisher, and stops it.
func realRepository(t *testing.T, program string) *publish.Publisher {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("stork-repo %q: %v\n%s", args, err, out)
		}
		return out
	}
	identity, err := author.CreateIdentity(durable.Disk{}, filepath.Join(dir, "keys"), repo.Publisher("alice").PublisherRole(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := author.EncodeBundle(identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "alice.keys"), bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	tree, offline := filepath.Join(dir, "repository"), filepath.Join(dir, "offline")
	var made struct{ Root repo.Digest }
	if err := json.Unmarshal(run("init", tree, "--keys", offline, "--json"), &made); err != nil {
		t.Fatal(err)
	}
	run("publisher", "add", "alice", filepath.Join(dir, "alice.keys"), "--dir", tree, "--keys", offline)
	address := freeAddress(t)
	server := exec.Command(program, "serve", tree, "--listen", address)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		server.Wait()
	})
	url := "http://" + address
	waitFor(t, url+"/"+repo.TimestampPath)
	return &publish.Publisher{Dir: filepath.Join(dir, "state"), Identity: identity,
		Repository: api.RepositoryPin{Root: made.Root, URL: url}}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func waitFor(t *testing.T, url string) {
	t.Helper()
	for range 300 {
		if answer, err := http.Get(url); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not answer", url)
}
