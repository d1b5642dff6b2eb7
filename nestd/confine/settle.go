package confine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// settle makes itself at home in the namespaces that Child made: it mounts a
// /proc in which the process finds itself under its own number, and gives up
// the capability that this takes. The libraries that spread Landlock over all
// threads look for them in /proc/1/task, and never end if that is another
// process's.
func settle() error {
	// A slave: what the host unmounts must not stay busy in here, and what is
	// mounted in here must not reach the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cannot separate mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	if err := KeepCapabilities(); err != nil {
		return err
	}
	return checkCapabilities()
}

// KeepCapabilities takes all capabilities from this process's threads but
// those that it is told, for good as long as it starts no program.
func KeepCapabilities(keep ...uint) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for _, c := range keep {
		data[c/32].Permitted |= 1 << (c % 32)
		data[c/32].Effective |= 1 << (c % 32)
	}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("cannot give up capabilities: %w", errno)
	}
	return nil
}

// checkCapabilities asks the kernel whether every thread is without
// capabilities.
func checkCapabilities() error {
	paths, err := filepath.Glob("/proc/self/task/[0-9]*/status")
	if err != nil || len(paths) == 0 {
		return errors.Join(errors.New("cannot find threads"), err)
	}
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot check capabilities: %w", err)
		}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if !bytes.Contains(status, []byte(set+":\t0000000000000000\n")) {
				return fmt.Errorf("cannot give up capabilities: %s still has some", path)
			}
		}
	}
	return nil
}
