package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuestsSeeNoSecrets tries to read the testbed and the host from a guest,
// by every way that its root has.
func TestGuestsSeeNoSecrets(t *testing.T) {
	t.Parallel()
	// A folder that is on the same file system as /var, below which guests
	// see nearly everything.
	dir, err := os.MkdirTemp("/var/lib", "testbed-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte("TOPSECRET"), 0o600))
	tb := bare(t, Options{Dir: filepath.Join(dir, "bed")}, 1, 1)
	must(t, os.WriteFile(tb.path("store"), []byte("TOPSECRET"), 0o644))
	hash := hostRootHash(t)
	device := rootDevice(t)
	for _, script := range []string{
		"cat " + secret,
		"ls " + tb.dir,
		"cat " + tb.path("store"),
		"cat " + tb.path("state.json"),
		"ls " + tb.path("base", "lower"),
		"ls -A /root /home /tmp /srv /mnt | grep -v ':$' | grep .",
		"cat /etc/ssh/ssh_host_*_key",
		"find / -xdev -name state.json -path '*bed*' 2>/dev/null | grep .",
		"grep -r TOPSECRET /var/lib/testbed-test* 2>/dev/null",
		// Get behind the overlay.
		"umount -l / && cat " + secret,
		"umount -l /run; umount -l /proc; umount -l /dev; umount -l /tmp; cat " + secret,
		"mount --bind / /mnt && cat /mnt" + secret,
		"unshare -Urm cat " + secret,
		"nsenter -t 1 -a cat " + secret,
		"cat /proc/1/root" + secret,
		"chroot /proc/1/cwd cat " + secret,
		"ls /proc/*/root" + dir + "/bed/state.json",
		"mknod /tmp/disk b " + device + " && head -c 1024 /tmp/disk",
		"mount -t ext4 /dev/vda /mnt",
		"mount -t overlay x -o lowerdir=" + tb.path("base", "lower") + ":/usr /mnt",
		"test -s /proc/kcore && head -c 1 /proc/kcore",
		"cat /sys/kernel/debug/x",
	} {
		out, status := sh(t, tb, "n1g1", script)
		if status == 0 || strings.Contains(out, "TOPSECRET") {
			t.Errorf("guest could %s: %s", script, out)
		}
	}
	if got, _ := sh(t, tb, "n1g1", "cat /etc/shadow"); hash != "" && strings.Contains(got, hash) {
		t.Error("guest reads the host's password hashes")
	}
	// What the host has not for everybody, no guest has.
	if got, _ := sh(t, tb, "n1g1", "find /etc /var -xdev -type f ! -perm -4 ! -name 'shadow' ! -name gshadow 2>/dev/null"); got != "" {
		t.Errorf("guest sees private files of the host: %s", got)
	}
}

// hostRootHash is a line of the host's shadow file that is like no other's.
func hostRootHash(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Split(line, ":"); len(fields) > 1 && len(fields[1]) > 12 {
			return fields[1]
		}
	}
	return ""
}

// rootDevice is the number of the device with the host's root.
func rootDevice(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%Hd %Ld", "/").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// TestGuestsAreApart: nothing that one guest writes reaches another, or the
// host.
func TestGuestsAreApart(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 2)
	sh(t, tb, "n1g1", "for d in / /etc /usr/bin /var/lib /opt /tmp /dev /dev/shm /run; do echo mine > $d/apart-test; done 2>/dev/null")
	got, status := sh(t, tb, "n1g2", "for d in / /etc /usr/bin /var/lib /opt /tmp /dev /dev/shm /run; do cat $d/apart-test && exit 1; done; exit 0")
	if status != 0 {
		t.Errorf("the second guest reads %q", got)
	}
	for _, path := range []string{"/apart-test", "/etc/apart-test", "/usr/bin/apart-test", "/var/lib/apart-test"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is on the host", path)
		}
	}
	if got, _ := sh(t, tb, "n1g2", "ls /proc | grep -c '^[0-9]'"); got > "9" || got == "" {
		t.Errorf("the guest sees %s processes", got)
	}
}
