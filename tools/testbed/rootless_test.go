package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const rootlessVariable = "STORK_TEST_ROOTLESS"

// TestRootless runs TestWithoutRoot as an ordinary user.
func TestRootless(t *testing.T) {
	t.Parallel()
	if !privileged() {
		skipOrFail(t, "needs root, to become somebody else")
	}
	dir, err := os.MkdirTemp("/var/tmp", "testbed-rootless-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	const user = 12345
	must(t, os.Chown(dir, user, user))
	// The test program lies where only root can go.
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	program := filepath.Join(dir, "program")
	must(t, os.WriteFile(program, self, 0o755))
	cmd := exec.Command(program, "-test.run=^TestWithoutRoot$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), rootlessVariable+"="+dir, "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestWithoutRoot(t *testing.T) {
	dir := os.Getenv(rootlessVariable)
	if dir == "" {
		t.Skip("run by TestRootless")
	}
	if err := exec.Command("unshare", "-Urm", "true").Run(); err != nil {
		skipOrFail(t, "user namespaces are not for everybody here")
	}
	tb := bareAnywhere(t, Options{Dir: filepath.Join(dir, "bed")}, 1, 2)
	if !tb.state.Rootless {
		t.Fatal("this is not without root")
	}
	for _, c := range []struct{ script, want string }{
		{"id -u", "0"},
		{"hostname", "n1g1"},
		{"stork hello", "stork hello"},
		{"touch /run/stork/x 2>/dev/null || echo read-only", "read-only"},
		{"tr -s ' ' < /proc/self/uid_map | cut -d' ' -f2-", "0 0 1"},
		{"mkdir -p /opt/x && echo hi > /opt/x/y && cat /opt/x/y && stat -c %u /opt/x/y", "hi\n0"},
		{"mkdir -p /etc/stork /var/lib/stork /usr/bin/x && echo ok", "ok"},
		{"cat " + tb.path("state.json") + " 2>/dev/null || echo hidden", "hidden"},
		{"ls -A /root /home /tmp | grep -v : | grep . || echo empty", "empty"},
		{"test -d /var/lib/dpkg/info && grep -c ^root: /etc/passwd", "1"},
		{"echo x > /dev/null && echo ok", "ok"},
	} {
		if got, _ := sh(t, tb, "n1g1", c.script); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.script, got, c.want)
		}
	}
	if got, _ := sh(t, tb, "n1g2", "ls /opt"); got == "x" {
		t.Errorf("the second guest sees %q", got)
	}
}
