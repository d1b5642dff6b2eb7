package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the directories at the host's root that programs need to begin:
// what distributions ship, and interfaces of the kernel. /run is the guest's.
var needed = []string{"bin", "dev", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "proc", "run", "sbin", "usr"}

// hideHost mounts something empty over everything else of the host's that this
// thread sees. virtiofsd makes the guest's directory its root, but holds
// descriptors outside of that (of its /proc), from which ".." leads up to the
// root of the namespace for whoever has broken into it.
func hideHost(virtiofsd string) error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return fmt.Errorf("cannot hide the host's files: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join("/", entry.Name())
		if !entry.IsDir() || slices.Contains(needed, entry.Name()) || strings.HasPrefix(virtiofsd, path+"/") {
			continue
		}
		flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
		if err := unix.Mount("none", path, "tmpfs", flags, "mode=755,size=4k"); err != nil {
			return fmt.Errorf("cannot hide %s: %w", path, err)
		}
	}
	return nil
}
