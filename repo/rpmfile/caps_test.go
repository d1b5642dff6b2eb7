package rpmfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var capabilityTexts = []string{
	"cap_net_raw=ep", "= cap_net_raw+ep", "cap_net_raw,cap_net_admin=p", "cap_chown=i", "cap_checkpoint_restore=eip",
	"cap_net_raw+ep cap_net_raw-e", "CAP_SYS_ADMIN=ep", "cap_setuid,cap_setgid+eip", "=ep", "all=p", "cap_chown=p cap_kill=p",
}

// TestCapabilitiesAgainstSetcap compares with what setcap writes to a file.
func TestCapabilitiesAgainstSetcap(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setcap"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("setcap and root are needed: make deps installs it")
		}
		t.Skip("setcap or root is missing")
	}
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range capabilityTexts {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("setcap", text, path).CombinedOutput(); err != nil {
			t.Logf("setcap does not do %q: %s", text, out)
			continue
		}
		want := make([]byte, 64)
		n, err := unix.Getxattr(path, "security.capability", want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := capabilityXattr(text)
		if err != nil || !bytes.Equal(got, want[:n]) {
			t.Errorf("%q: got %x (%v), setcap writes %x", text, got, err, want[:n])
		}
	}
}

func TestNoCapabilities(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "=", " "} {
		if got, err := capabilityXattr(text); got != nil || err != nil {
			t.Errorf("%q: got %x, %v, want nothing", text, got, err)
		}
	}
	for _, text := range []string{"cap_net_raw", "+ep", "cap_fly=ep", "cap_chown=x", "cap_chown+", "cap_chown=ep cap_kill=p", "64=p"} {
		if got, err := capabilityXattr(text); err == nil {
			t.Errorf("%q: got %x, want an error", text, got)
		}
	}
}

// FuzzCapabilities: no text panics.
func FuzzCapabilities(f *testing.F) {
	for _, text := range capabilityTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := capabilityXattr(text); err == nil && b != nil && len(b) != 20 {
			t.Errorf("%q gives %d bytes", text, len(b))
		}
	})
}
