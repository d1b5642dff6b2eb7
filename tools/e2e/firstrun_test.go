package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"stork/fixtures"
)

const firstRunMark = "<!-- first-run"

// prompt is a line of the README's block: who types what.
var prompt = regexp.MustCompile(`^(publisher\$|repository\$|nest#|guest#)\s+(\S.*)$`)

// step is one command of the README.
type step struct{ who, command string }

// readme returns the commands of the README's first run.
func readme(t *testing.T) []step {
	t.Helper()
	_, rest, ok := strings.Cut(readmeText(t), firstRunMark)
	if !ok {
		t.Fatalf("README.md has no %q", firstRunMark)
	}
	_, rest, _ = strings.Cut(rest, "```\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md has no block of commands after its mark")
	}
	var steps []step
	for line := range strings.Lines(block) {
		m := prompt.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Fatalf("cannot read %q", line)
		}
		steps = append(steps, step{strings.TrimRight(m[1], "$#"), m[2]})
	}
	return steps
}

func readmeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFirstRun types the README's commands, as they stand there, on two hosts:
// the repository's, where the publisher works too, and the nest's with a
// guest.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, tool := range []string{"rpmbuild", "ip", "nsenter", "mount"} {
		fixtures.NeedTool(t, tool)
	}
	steps := readme(t)
	if len(steps) != 11 {
		t.Errorf("README.md has %d commands, want 11", len(steps))
	}
	w := newHosts(t)
	printed := map[string]string{} // placeholder → what replaces it
	fill := regexp.MustCompile(`\b(ROOT|OWNER|KEY)\b`)
	for _, s := range steps {
		line := fill.ReplaceAllStringFunc(s.command, func(name string) string {
			if printed[name] == "" {
				t.Fatalf("%s: nothing has printed %s", s.command, name)
			}
			return printed[name]
		})
		t.Logf("%s %s", s.who, line)
		w.type_(t, s.who, line, printed)
	}
	out := w.machine("guest").run(t, "/opt/hello/hello; stork verify; stork list")
	if !strings.HasPrefix(out, "hello\n") || !strings.Contains(out, "hello") {
		t.Errorf("the guest has %q", out)
	}
	w.nspawn(t, printed["OWNER"])
}

// hosts are the machines of the first run.
type hosts struct {
	machines map[string]*machine
	bin      string
	guest    string // the guest's root, on the nest's host
}

// machine is a set of namespaces that a process holds.
type machine struct {
	pid  int
	args []string // nsenter and its arguments
	home string
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	w := &hosts{machines: map[string]*machine{}, bin: os.Getenv("STORK_BIN")}
	w.machines["repository"] = w.hold(t, "--net")
	// The publisher is on the same network, with files of its own.
	w.machines["publisher"] = w.holdIn(t, w.machines["repository"], "--net")
	w.machines["nest"] = w.hold(t, "--net")
	a, b := w.machines["repository"], w.machines["nest"]
	must(t, "ip", "link", "add", "stork0", "netns", strconv.Itoa(a.pid), "type", "veth", "peer", "name", "stork0", "netns", strconv.Itoa(b.pid))
	a.run(t, "ip addr add 10.66.0.1/24 dev stork0 && ip link set stork0 up && ip link set lo up")
	b.run(t, "ip addr add 10.66.0.2/24 dev stork0 && ip link set stork0 up && ip link set lo up")
	rpm := helloRPM(t)
	for _, m := range w.machines {
		m.furnish(t, w.bin)
	}
	w.machines["publisher"].give(t, "hello.rpm", rpm)
	return w
}

func must(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// hold starts a machine: a process with namespaces of its own.
func (w *hosts) hold(t *testing.T, flags ...string) *machine {
	t.Helper()
	args := append([]string{"unshare", "--mount", "--propagation", "private"}, flags...)
	return holder(t, append(args, "sleep", "infinity"))
}

// holdIn is hold with a namespace of another machine.
func (w *hosts) holdIn(t *testing.T, other *machine, share string) *machine {
	t.Helper()
	return holder(t, []string{"nsenter", "--target", strconv.Itoa(other.pid), share,
		"unshare", "--mount", "--propagation", "private", "sleep", "infinity"})
}

// holder starts a command that ends in sleep, and waits until it is that.
func holder(t *testing.T, args []string) *machine {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its namespaces go with the last process in them
		_ = cmd.Wait()
	})
	m := &machine{pid: cmd.Process.Pid, home: "/root"}
	m.args = []string{"nsenter", "--target", strconv.Itoa(m.pid), "--mount", "--net"}
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid))
		if string(name) == "sleep\n" {
			return m
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%s did not start", strings.Join(args, " "))
		}
	}
}

// furnish covers what the commands write with scratch directories, puts the
// programs into the path and the repository's name into /etc/hosts.
func (m *machine) furnish(t *testing.T, bin string) {
	t.Helper()
	m.run(t, `mount --bind `+bin+` /usr/local/bin
mount -t tmpfs -o mode=755 none /var/lib && mount -t tmpfs -o mode=755 none /srv
mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=700 none /root
printf '127.0.0.1 localhost\n10.66.0.1 repository\n' >/srv/hosts && mount --bind /srv/hosts /etc/hosts`)
}

func (m *machine) command(line string) *exec.Cmd {
	cmd := exec.Command(m.args[0], append(m.args[1:], "sh", "-c", "cd "+m.home+" && "+line)...)
	cmd.Env = []string{"PATH=/run/stork:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + m.home, "TERM=dumb"}
	return cmd
}

// run runs a line in a shell and returns what it prints.
func (m *machine) run(t *testing.T, line string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := m.command(line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("y\n"), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out.String(), errs.String())
	}
	return out.String() + errs.String()
}

// give writes a file into a machine's home.
func (m *machine) give(t *testing.T, name string, data []byte) {
	t.Helper()
	cmd := m.command("cat >" + name)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot write %s: %v: %s", name, err, out)
	}
}

// serve starts a daemon, and waits until it answers a probe.
func (m *machine) serve(t *testing.T, line, probe string) {
	t.Helper()
	var log bytes.Buffer
	cmd := m.command("exec " + line)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", line, log.String())
		}
	})
	for start := time.Now(); m.command(probe).Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%s does not answer", line)
		}
	}
}

func (w *hosts) machine(name string) *machine { return w.machines[name] }

// type_ types one command, and does what people do with what it prints.
func (w *hosts) type_(t *testing.T, who, line string, printed map[string]string) {
	t.Helper()
	if who == "guest" {
		w.startGuest(t)
	}
	m := w.machine(who)
	if m == nil {
		t.Fatalf("nobody is called %s", who)
	}
	switch {
	case strings.HasPrefix(line, "stork-repo serve"):
		m.serve(t, line, "bash -c 'exec 3<>/dev/tcp/repository/8750'")
		return
	case strings.HasPrefix(line, "nestd run"):
		m.serve(t, line, "nestd status")
		return
	}
	out := m.run(t, line)
	t.Log(out)
	w.remember(t, line, out, printed)
}

var (
	digestText = regexp.MustCompile(`sha256:([0-9a-f]{64})`)
	keyText    = regexp.MustCompile(`ed25519:\S+`)
	ownerText  = regexp.MustCompile(`(?i)owner.*?sha256:([0-9a-f]{64})`)
	guestDir   = regexp.MustCompile(`(?m)(/\S*guests/g1)\b`)
)

// remember takes from what a command has printed what later ones want.
func (w *hosts) remember(t *testing.T, line, out string, printed map[string]string) {
	t.Helper()
	take := func(name string, form *regexp.Regexp, group int) {
		m := form.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s: no %s in what it prints: %s", line, name, out)
		}
		printed[name] = m[group]
	}
	switch {
	case strings.HasPrefix(line, "stork key new"):
		take("OWNER", ownerText, 1)
		keys := w.machine("publisher").command("cat alice.keys")
		data, err := keys.Output()
		if err != nil {
			t.Fatal(err)
		}
		w.machine("repository").give(t, "alice.keys", data) // by mail
	case strings.HasPrefix(line, "stork-repo init"):
		take("ROOT", digestText, 1)
	case strings.HasPrefix(line, "nestd init"):
		take("KEY", keyText, 0)
	case strings.HasPrefix(line, "nestd guest add"):
		take("directory", guestDir, 1)
		w.guest = printed["directory"]
		if text := readmeText(t); strings.Count(text, w.guest+":/run/stork") != 2 {
			t.Errorf("README.md's examples bind another directory than %s", w.guest)
		}
	}
}

func helloRPM(t *testing.T) []byte {
	t.Helper()
	files := fixtures.Rpmbuild(t, `Name: hello
Version: 1
Release: 1
Summary: Says hello
License: MIT
BuildArch: noarch
%description
Says hello.
%install
mkdir -p %{buildroot}/opt/hello
printf '#!/bin/sh\necho hello\n' >%{buildroot}/opt/hello/hello
chmod 755 %{buildroot}/opt/hello/hello
%files
/opt/hello
`)
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return data
}
