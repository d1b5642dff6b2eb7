package attach

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const rootlessVariable = "STORK_TEST_ROOTLESS"

// TestRootless runs TestInsideUserNamespace where the nest itself has one
// user: nothing can be idmapped there, and the flags must be locked even so.
func TestRootless(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInsideUserNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), rootlessVariable+"=1")
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: one, GidMappings: one}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestInsideUserNamespace(t *testing.T) {
	if os.Getenv(rootlessVariable) == "" {
		t.Skip("run by TestRootless")
	}
	s := newStore(t)
	layer := s.layer("a")
	before := s.fingerprint()
	a, g := s.open(), startGuest(t, guestKind{users: true, mounts: true, single: true})
	attach(t, a, g, Identity{}, layer)
	at := filepath.Join(g.view, layer)
	if got := g.sh("stat -c %u " + at + "/file; cat " + at + "/file"); got != "0\ncontent of a" {
		t.Errorf("guest reads %q", got)
	}
	for _, script := range []string{": > " + at + "/new", "mount -o remount,bind,rw " + at + " && : > " + at + "/new"} {
		if resp := g.do(guestRequest{Op: "sh", Arg: script}); resp.Err == "" {
			t.Errorf("guest could %s", script)
		}
	}
	if s.fingerprint() != before {
		t.Error("the store has changed")
	}
}
