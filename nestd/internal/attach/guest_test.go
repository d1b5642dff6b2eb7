package attach

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself again as a guest: a process in namespaces of
// its own that does what it reads, one JSON request a line.
const guestArgument = "attach-test-guest"

// placerArgument is how it becomes a placer.
const placerArgument = "attach-test-placer"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == guestArgument {
		guestMain()
		return
	}
	if len(os.Args) > 1 && os.Args[1] == placerArgument {
		os.Exit(PlacerMain(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == confinedArgument {
		confinedMain()
		return
	}
	os.Exit(m.Run())
}

type guestRequest struct {
	Op    string // see guestSide.do
	Arg   string // script, path, or name of an attack
	Arena arena  // for an attack
}

type guestResponse struct {
	Out string
	Err string
}

func guestMain() {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	g := &guestSide{}
	defer func() {
		for _, c := range g.conns {
			c.Close()
		}
	}()
	for {
		var req guestRequest
		if in.Decode(&req) != nil {
			return
		}
		text, err := g.do(&req)
		resp := guestResponse{Out: text}
		if err != nil {
			resp.Err = err.Error()
		}
		if out.Encode(resp) != nil {
			return
		}
	}
}

// guestSide is what the guest's process holds until its end.
type guestSide struct {
	conns  []*net.UnixConn
	watch  int // inotify
	passed int // a descriptor that came over the last connection
}

func (g *guestSide) do(req *guestRequest) (string, error) {
	switch req.Op {
	case "sh":
		text, err := exec.Command("sh", "-c", req.Arg).CombinedOutput()
		return string(text), err
	case "hold":
		return "", holdDirectory(req.Arg)
	case "connect":
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: req.Arg})
		if err == nil {
			g.conns = append(g.conns, conn)
		}
		return "", err
	case "connect as somebody":
		return "", connectAs(req.Arg, 1000)
	case "attack":
		for _, attack := range attacks() {
			if attack.name == req.Arg {
				return "", attack.try(&req.Arena)
			}
		}
	case "lease", "flock":
		return "", hold(req.Op, req.Arg)
	case "open now":
		return "", closed(unix.Open(req.Arg, unix.O_RDONLY|unix.O_NONBLOCK, 0))
	case "watch":
		var err error
		if g.watch, err = unix.InotifyInit1(unix.IN_NONBLOCK); err == nil {
			_, err = unix.InotifyAddWatch(g.watch, req.Arg, unix.IN_OPEN)
		}
		return "", err
	case "seen":
		_, err := unix.Read(g.watch, make([]byte, 1024))
		return "", err
	case "receive":
		return "", g.receive()
	case "passed":
		return "", withPassed(&req.Arena, g.passed, req.Arg)
	}
	return "", errors.New("there is no such thing to do")
}

// connectAs connects as another user, for as long as the process lives.
func connectAs(socket string, uid uintptr) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // and ends with the goroutine, if it must
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uid, same); errno != 0 {
		return errno
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); errno != 0 {
		return errno
	}
	runtime.UnlockOSThread()
	return err
}

// hold takes a lease or lock on a file, for as long as the process lives.
func hold(what, path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if what == "flock" {
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return err
}

// receive takes a descriptor from the last connection.
func (g *guestSide) receive() error {
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := g.conns[len(g.conns)-1].ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) == 0 {
		return errors.Join(errors.New("no descriptor has come"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil {
		g.passed = fds[0]
	}
	return err
}

// testGuest is a guest as a runtime would start it, with the nest's directory
// bound read-only at dir.
type testGuest struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	dir  string // where the guest sees the nest's directory
	view string
	host string // the view on the host
	peer *Peer
	conn *net.UnixConn // the nest's end of the guest's connection
}

type guestKind struct {
	users  bool // a user namespace of its own
	mounts bool // a mount namespace of its own
	single bool // the user namespace has one user, who is the nest's root
	peers  bool // its directory is mounted on the host too, as a peer
	nobody bool // it is not its root that asks
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipOrFail(t, "needs root")
	}
}

func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// openDir is a temporary directory that any user can pass through.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func startGuest(t *testing.T, kind guestKind) *testGuest {
	t.Helper()
	base := openDir(t)
	g := &testGuest{t: t, dir: filepath.Join(base, "run"), host: filepath.Join(base, "host", "view")}
	g.view = filepath.Join(g.dir, "view")
	must(t, os.MkdirAll(g.host, 0o755))
	must(t, os.Mkdir(g.dir, 0o755))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(base, "host", "nest.sock")})
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	must(t, os.Chmod(filepath.Join(base, "host", "nest.sock"), 0o666))
	if kind.peers {
		must(t, unix.Mount(filepath.Join(base, "host"), g.dir, "", unix.MS_BIND, ""))
		t.Cleanup(func() { must(t, unix.Unmount(g.dir, unix.MNT_DETACH)) })
		must(t, unix.Mount("", g.dir, "", unix.MS_SHARED, ""))
	}

	g.cmd = exec.Command("/proc/self/exe", guestArgument)
	attr := &syscall.SysProcAttr{} // no Pdeathsig: threads of this package end; the guest ends with its input
	if kind.mounts {
		attr.Cloneflags |= unix.CLONE_NEWNS
	}
	if kind.users {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		if kind.single {
			ids = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
		}
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, !kind.single
		attr.Credential = &syscall.Credential{NoSetGroups: kind.single}
	}
	g.cmd.SysProcAttr = attr
	g.cmd.Stderr = os.Stderr
	g.in, err = g.cmd.StdinPipe()
	must(t, err)
	out, err := g.cmd.StdoutPipe()
	must(t, err)
	g.out = bufio.NewReader(out)
	must(t, g.cmd.Start())
	t.Cleanup(g.kill)
	switch {
	case kind.peers:
		g.sh("mount -o remount,bind,ro " + g.dir)
	case kind.mounts:
		g.sh("mount --make-rprivate / && mount --bind " + filepath.Join(base, "host") + " " + g.dir +
			" && mount -o remount,bind,ro " + g.dir)
	default:
		g.view = g.host
		g.dir = filepath.Join(base, "host")
	}
	how := "connect"
	if kind.nobody {
		how = "connect as somebody"
	}
	g.connect(listener, how)
	return g
}

func (g *testGuest) connect(listener *net.UnixListener, how string) {
	g.t.Helper()
	if resp := g.do(guestRequest{Op: how, Arg: g.dir + "/nest.sock"}); resp.Err != "" {
		g.t.Fatalf("guest can not connect: %s", resp.Err)
	}
	must(g.t, listener.SetDeadline(time.Now().Add(10*time.Second)))
	conn, err := listener.AcceptUnix()
	must(g.t, err)
	g.t.Cleanup(func() { conn.Close() })
	g.conn = conn
	g.peer, err = PeerOf(conn)
	must(g.t, err)
	g.t.Cleanup(func() { g.peer.Close() })
}

// pass sends the guest a descriptor.
func (g *testGuest) pass(f *os.File) {
	g.t.Helper()
	_, _, err := g.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil)
	must(g.t, err)
	if resp := g.do(guestRequest{Op: "receive"}); resp.Err != "" {
		g.t.Fatalf("guest can not receive: %s", resp.Err)
	}
}

func (g *testGuest) kill() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

func (g *testGuest) do(req guestRequest) guestResponse {
	g.t.Helper()
	data, err := json.Marshal(req)
	must(g.t, err)
	_, err = g.in.Write(append(data, '\n'))
	must(g.t, err)
	line, err := g.out.ReadBytes('\n')
	must(g.t, err)
	var resp guestResponse
	must(g.t, json.Unmarshal(line, &resp))
	return resp
}

// sh runs a script in the guest, which must succeed.
func (g *testGuest) sh(script string) string {
	g.t.Helper()
	resp := g.do(guestRequest{Op: "sh", Arg: script})
	if resp.Err != "" {
		g.t.Fatalf("guest: %s: %s: %s", script, resp.Err, resp.Out)
	}
	return strings.TrimSpace(resp.Out)
}

// waitFor polls until done, for what the kernel finishes in the background.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func holdLease(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return fd, err
}
