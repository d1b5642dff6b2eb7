package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer/transfertest"
)

// program returns a program of Debian's, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and in CI everything is: see make deps", name)
	}
	t.Skipf("%s is not installed: see make deps", name)
	return ""
}

// client is another BitTorrent client.
type client struct {
	name string
	// run returns the command that seeds or leeches what the torrent file
	// says in dir, listening at the port.
	run func(t *testing.T, torrent, dir, home string, port int) *exec.Cmd
}

var clients = []client{
	{"aria2c", func(t *testing.T, torrent, dir, home string, port int) *exec.Cmd {
		return exec.CommandContext(t.Context(), program(t, "aria2c"), "--no-conf", "--dir="+dir, "--listen-port="+strconv.Itoa(port), "--seed-ratio=0.0",
			"--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--check-integrity=true", "--bt-tracker-connect-timeout=2",
			"--summary-interval=0", "--console-log-level=error", "--allow-overwrite=true", torrent)
	}},
	{"transmission-cli", func(t *testing.T, torrent, dir, home string, port int) *exec.Cmd {
		// It would try uTP first, for a minute.
		if err := os.WriteFile(filepath.Join(home, "settings.json"), []byte(`{"utp-enabled": false}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.CommandContext(t.Context(), program(t, "transmission-cli"), "--config-dir="+home, "--download-dir="+dir, "--port="+strconv.Itoa(port),
			"--no-portmap", "--no-uplimit", "--no-downlimit", "--encryption-tolerated", "--verify", torrent)
	}},
}

// start runs the client until the test ends.
func (c client) start(t *testing.T, torrent []byte, dir string, port int) {
	t.Helper()
	home := t.TempDir()
	path := filepath.Join(home, "package.torrent")
	if err := os.WriteFile(path, torrent, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := c.run(t, path, dir, home, port)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said %.2000s", c.name, said.Bytes())
		}
	})
}

// freePort returns a port that nobody listens at now.
func freePort(t *testing.T) int {
	t.Helper()
	p := startPeer(t, newHost(), transfertest.Content(100<<10, 9), "")
	p.l.Close()
	return int(p.at.Port())
}

// ownNetwork makes a test binary one that runs in a network of its own, where
// 10.77.0.0/16 is this host: some clients take no peer at 127.0.0.1.
const ownNetwork = "STORK_SWARM_NETWORK"

func hostPrefix() string {
	if os.Getenv(ownNetwork) != "" {
		return "10.77"
	}
	return "127.77"
}

// TestOtherClients lets Debian's clients fetch from a nest and seed to one.
func TestOtherClients(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	for _, args := range []string{"link set lo up", "route add local 10.77.0.0/16 dev lo"} {
		if out, err := exec.CommandContext(t.Context(), program(t, "ip"), strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			program(t, c.name)
			t.Run("leeches", func(t *testing.T) { t.Parallel(); c.leeches(t) })
			t.Run("seeds", func(t *testing.T) { t.Parallel(); c.seeds(t) })
		})
	}
}

// inOwnNetwork runs this test again, in a process in a network namespace.
func inOwnNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("needs root")
	}
	for _, name := range []string{"ip", clients[0].name, clients[1].name} {
		program(t, name)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), ownNetwork+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// torrentFile is what docs/formats.md says to make of an info dictionary.
func torrentFile(info []byte, announce string) []byte {
	return fmt.Appendf(nil, "d8:announce%d:%s4:info%se", len(announce), announce, info)
}

func (c client) leeches(t *testing.T) {
	text := transfertest.Content(3<<20+5, 7)
	tr := startTracker(t)
	n := newNest(t, nil)
	n.seed(t, text, TrackerPlace(tr.URL+"/announce/token/info"))
	until(t, func() bool { return len(tr.seen()) > 0 })
	dir := t.TempDir()
	info := infoOfText(text)
	c.start(t, torrentFile(info.Encode(), tr.URL+"/announce/token/info"), dir, freePort(t))
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		got, err := os.ReadFile(filepath.Join(dir, info.Blob.Hex()))
		if err == nil && bytes.Equal(got, text) {
			t.Logf("the nest sent %d bytes of %d", n.Seeds()[0].Sent, len(text))
			return
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("it has not fetched the package in 90 seconds; announces: %q, seeds %+v", tr.seen(), n.Seeds())
}

func (c client) seeds(t *testing.T) {
	text := transfertest.Content(3<<20+5, 8)
	tr := startTracker(t)
	dir := t.TempDir()
	info := infoOfText(text)
	if err := os.WriteFile(filepath.Join(dir, info.Blob.Hex()), text, 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t, torrentFile(info.Encode(), tr.URL+"/announce/token/info"), dir, freePort(t))
	until(t, func() bool { return strings.Contains(fmt.Sprint(tr.seen()), "started left 0") })
	got, err := newNest(t, nil).fetch(t, text, TrackerPlace(tr.URL+"/announce/token/info"))
	if err != nil {
		t.Errorf("%v; announces: %q", err, tr.seen())
	}
	t.Logf("%+v", got.Ledger)
}
