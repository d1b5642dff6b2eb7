package nest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/repo"
)

// runGuest is the test binary as a guest: it connects to its socket, and runs
// the scripts that it reads, one a line, answering with what they say and
// whether they succeed.
func runGuest(socket string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var script string
		if in.Decode(&script) != nil {
			conn.Close()
			os.Exit(0)
		}
		text, err := exec.Command("sh", "-c", script).CombinedOutput()
		if out.Encode([]any{string(text), err == nil}) != nil {
			os.Exit(1)
		}
	}
}

// realGuest is a process in mount and user namespaces of its own, with the
// directory that the nest made for it.
type realGuest struct {
	t    *testing.T
	in   *json.Encoder
	out  *json.Decoder
	dir  string // of the guest's own
	view string
	peer *attach.Peer
}

func startGuest(t *testing.T, n *Nest, name string) *realGuest {
	t.Helper()
	g := &realGuest{t: t, dir: t.TempDir()}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(g.dir, "test.sock")})
	must(t, err)
	defer listener.Close()
	cmd := exec.Command("/proc/self/exe", "test-guest", filepath.Join(g.dir, "test.sock"))
	// Root of the guest is root here, or it could not reach the directories.
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // it ends with its input
	})
	g.in, g.out = json.NewEncoder(stdin), json.NewDecoder(bufio.NewReader(stdout))
	must(t, listener.SetDeadline(time.Now().Add(20*time.Second)))
	conn, err := listener.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	g.peer, err = attach.PeerOf(conn)
	must(t, err)
	t.Cleanup(func() { g.peer.Close() })
	g.view = filepath.Join(g.dir, "run", api.ViewName)
	g.sh(fmt.Sprintf("mount --make-rprivate / && mkdir %[1]s/run && mount --bind %[2]s %[1]s/run && mount -o remount,bind,ro %[1]s/run",
		g.dir, n.guestDir(name)))
	return g
}

// try runs a script in the guest.
func (g *realGuest) try(script string) (string, bool) {
	g.t.Helper()
	must(g.t, g.in.Encode(script))
	var answer [2]any
	must(g.t, g.out.Decode(&answer))
	return strings.TrimSpace(answer[0].(string)), answer[1].(bool)
}

func (g *realGuest) sh(script string) string {
	g.t.Helper()
	text, ok := g.try(script)
	if !ok {
		g.t.Fatalf("guest: %s: %s", script, text)
	}
	return text
}

// overlay mounts trees below a directory that the guest has upper for.
func (g *realGuest) overlay(name, upper string, trees []string) string {
	g.t.Helper()
	at := filepath.Join(g.dir, name)
	g.sh(fmt.Sprintf("mkdir -p %[1]s %[2]s/%[3]s/up %[2]s/%[3]s/work && mount -t overlay overlay -o userxattr,lowerdir=%[4]s,upperdir=%[2]s/%[3]s/up,workdir=%[2]s/%[3]s/work %[1]s",
		at, upper, name, strings.Join(trees, ":")))
	return at
}

// TestEnvironmentInGuest: a guest with a user namespace of its own mounts what
// it is given as an overlay, goes from one environment to the next while the
// first is in use, and writes to its own upper only.
func TestEnvironmentInGuest(t *testing.T) {
	t.Parallel()
	specs, names := many(6)
	specs[5].Files = append(specs[5].Files, fixtures.Text("/opt/p00/more", "p05 has it\n"))
	o, n := preparedFor(t, []string{"g1"}, specs)
	g := startGuest(t, n, "g1")
	ctx := context.Background()
	ask := func(keep []repo.Digest, names ...string) *api.EnvironmentResponse {
		t.Helper()
		request := o.want(names...)
		request.View, request.Keep = g.view, keep
		response, err := n.Environment(ctx, "g1", g.peer, request)
		must(t, err)
		return response
	}
	upper, err := n.Upper(ctx, "g1", g.peer, api.UpperRequest{View: g.view})
	must(t, err)

	first := ask(nil, names[:5]...)
	at := g.overlay("first", upper.Path, first.Trees)
	if got := g.sh("cd " + at + " && cat opt/p00/hello && ls usr/share/all | wc -l && ls -A etc && echo own > opt/p00/hello && rm opt/p01/shared"); !strings.Contains(got, "echo p00") || !strings.Contains(got, "60") || strings.Contains(got, ".conf") {
		t.Errorf("guest sees %q", got)
	}
	// Of the next one, one package is gone and one has come.
	second := ask([]repo.Digest{first.ID}, append(names[1:5:5], names[5])...)
	if len(second.Trees) != 2 || second.Trees[1] != first.Trees[0] {
		t.Fatalf("trees %v after %v", second.Trees, first.Trees)
	}
	next := g.overlay("second", upper.Path, second.Trees)
	if got := g.sh("cd " + next + " && ls opt opt/p00 && ls usr/share/all | wc -l"); got != "opt:\np00\np01\np02\np03\np04\np05\n\nopt/p00:\nmore\n60" {
		t.Errorf("guest sees %q", got)
	}
	if got := g.sh("cat " + at + "/opt/p00/hello; ls " + at + "/opt/p01"); got != "own\nhello" {
		t.Errorf("the first overlay shows %q", got)
	}
	for what, script := range map[string]string{
		"wrote to a tree":      "echo x > " + second.Trees[0] + "/opt/p05/hello",
		"removed a whiteout":   "rm " + second.Trees[0] + "/opt/p00/hello",
		"made a tree writable": "mount -o remount,bind,rw " + first.Trees[0],
	} {
		if text, ok := g.try(script); ok {
			t.Errorf("the guest %s: %s", what, text)
		}
	}
	// What the guest does not keep leaves the view; the tree below stays.
	g.sh("umount " + at)
	third := ask(nil, names[2:5]...)
	ask(nil, names[2:5]...)
	dropped(t, n)
	listed := g.sh("ls " + g.view)
	for _, tree := range append(third.Trees, second.Trees...) {
		if !strings.Contains(listed, filepath.Base(tree)) {
			t.Errorf("%s is not in the view: %s", tree, listed)
		}
	}
	g.sh("umount " + next)
	if none := ask(nil); len(none.Trees) != 0 {
		t.Errorf("no packages have trees %v", none.Trees)
	}
	if listed := g.sh("ls " + g.view); listed != api.UpperName {
		t.Errorf("the view has %q", listed)
	}
	dropped(t, n)
	mustHaveTrees(t, n)
	checkSound(t, n)
	if got := g.sh("cat " + upper.Path + "/first/up/opt/p00/hello"); got != "own" {
		t.Errorf("the upper has %q", got)
	}
}

// TestDetach: a layer that is taken out of the view stays referred to if that
// is said.
func TestDetach(t *testing.T) {
	t.Parallel()
	specs, names := many(1)
	o, n := preparedFor(t, []string{"g1"}, specs)
	g := startGuest(t, n, "g1")
	ctx := context.Background()
	ids := o.want(names...).Packages
	for _, keep := range []bool{true, false} {
		_, err := n.Attach(ctx, "g1", g.peer, api.AttachRequest{Packages: ids, View: g.view})
		must(t, err)
		must(t, n.Detach(ctx, "g1", g.peer, api.DetachRequest{Packages: ids, View: g.view, Keep: keep}))
		if left := g.sh("ls " + g.view); left != "" {
			t.Errorf("the view has %q", left)
		}
		refs, err := n.State.References(ctx, "g1")
		must(t, err)
		if got := slices.Contains(refs, ids[0]); got != keep {
			t.Errorf("keep %t: referred to: %t", keep, got)
		}
	}
}

// TestUpperGoesWithGuest: the next guest of that name has none of it.
func TestUpperGoesWithGuest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := startNest(t, o)
	ctx := context.Background()
	for range 2 {
		addGuest(t, n, "g1")
		g := startGuest(t, n, "g1")
		upper, err := n.Upper(ctx, "g1", g.peer, api.UpperRequest{View: g.view})
		must(t, err)
		if got := g.sh("ls " + upper.Path + " && mkdir -p " + upper.Path + "/deep/er && echo mine > " + upper.Path + "/deep/er/file"); got != "" {
			t.Errorf("a new guest's upper has %q", got)
		}
		must(t, n.RemoveGuest(ctx, "g1"))
		if left, err := os.ReadDir(n.path("guests")); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	info, err := os.Stat(n.path("guests"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory above all uppers: %v, %v; want 0700", info.Mode(), err)
	}
	// What a crash has left of guests that are gone goes at the next start.
	for _, name := range []string{"g9", droppedPrefix + "x"} {
		must(t, os.MkdirAll(n.path("guests", name, "upper"), 0o700))
	}
	addGuest(t, n, "kept")
	must(t, os.MkdirAll(n.path("guests", "kept", "upper"), 0o700))
	must(t, n.recoverGuests(ctx))
	if left, err := os.ReadDir(n.path("guests")); err != nil || len(left) != 1 || left[0].Name() != "kept" {
		t.Errorf("left: %v, %v", left, err)
	}
}
