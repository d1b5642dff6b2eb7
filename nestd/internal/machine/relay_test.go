package machine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sealedArgument is how the test binary tries what a relay must not do.
const sealedArgument = "machine-test-sealed"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == sealedArgument {
		sealedMain(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// sealedMain gives up what a relay gives up, and prints what it can do all the
// same; it must be able to connect to the socket.
func sealedMain(socket string) {
	if err := seal(); err != nil {
		fmt.Println(err)
		return
	}
	can := func(what string, err error) {
		if err == nil {
			fmt.Println("can", what)
		}
	}
	can("use what it was not given", unix.Fstat(firstFile+1, &unix.Stat_t{}))
	can("start programs", exec.Command("/bin/true").Run())
	_, err := os.ReadFile("/etc/passwd")
	can("read files", err)
	can("write files", os.WriteFile(socket+".x", nil, 0o600))
	can("make namespaces", unix.Unshare(unix.CLONE_NEWUTS))
	can("trace", unix.PtraceAttach(os.Getppid()))
	_, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	can("use keys", err)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("done", conn.Close())
}

func TestRelayIsSealed(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("/proc/self/exe", sealedArgument, socket)
	cmd.ExtraFiles = []*os.File{null, null} // one descriptor more than it is given, by mistake
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "done <nil>" {
		t.Errorf("%v: %s", err, out)
	}
}
