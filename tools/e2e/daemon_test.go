package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// process is a daemon of a testbed.
type process struct {
	pid  int
	uid  string
	args []string
}

// daemon ends, stops and starts the daemons of the script's testbed, by
// their process numbers.
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 2, "daemon kill|stop|cont|start repo|NEST")
	b, what, name := bedOf(ts), args[0], args[1]
	if what == "start" {
		b.startAgain(ts, name)
		return
	}
	signal, ok := map[string]unix.Signal{"kill": unix.SIGKILL, "stop": unix.SIGSTOP, "cont": unix.SIGCONT}[what]
	usage(ts, ok, "daemon kill|stop|cont|start repo|NEST")
	p, err := b.daemonOf(name)
	ts.Check(err)
	if p == nil {
		ts.Fatalf("no daemon of %s runs", name)
	}
	ts.Check(unix.Kill(p.pid, signal))
	if what != "kill" {
		return
	}
	b.stopped[name] = p
	for unix.Kill(p.pid, 0) == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// daemonOf finds the daemon of a machine; nil if none runs. Its arguments
// name its directory, which no other process has.
func (b *bed) daemonOf(name string) (*process, error) {
	verb, dir := "run", filepath.Join(b.dir, name)
	if name == "repo" {
		verb = "serve"
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // ended meanwhile
		}
		args := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
		program := filepath.Base(args[0])
		if len(args) < 3 || args[1] != verb || program != "nestd" && program != "stork-repo" {
			continue
		}
		for _, arg := range args[2:] {
			if arg == dir {
				return &process{pid: pid, uid: uidOf(pid), args: args}, nil
			}
		}
	}
	return nil, nil
}

// uidOf returns the user of a process; empty if it has ended.
func uidOf(pid int) string {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			return strings.Fields(rest)[0]
		}
	}
	return ""
}

// startAgain starts a daemon that was killed, as it was, and waits until it
// answers.
func (b *bed) startAgain(ts *testscript.TestScript, name string) {
	p := b.stopped[name]
	if p == nil {
		ts.Fatalf("the daemon of %s was not killed", name)
	}
	const script = `log=$1 uid=$2; shift 2; setsid setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@" >>"$log" 2>&1 </dev/null &`
	log := filepath.Join(b.dir, "log", name)
	args := append([]string{"sh", "-c", script, "sh", log, p.uid}, p.args...)
	if status := b.in(ts, name, args...); status != 0 {
		ts.Fatalf("cannot start %s: status %d", name, status)
	}
	delete(b.stopped, name)
	for start := time.Now(); ts.Exec(b.program("stork-testbed"), "stats", "--dir", b.dir) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			log, _ := os.ReadFile(log)
			ts.Fatalf("%s does not answer after %s: %s", name, patience, log)
		}
	}
}
