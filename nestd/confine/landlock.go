package confine

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// minABI is the Landlock version of Linux 6.8, the oldest kernel that nestd
// runs on: files, truncation and TCP.
const minABI = 4

// Landlock takes from this process, for good, the right to change any file
// but those below the writable directories, and to use TCP unless tcp is set.
// Reading stays what the file system's permissions allow: the fetcher needs
// certificates and the resolver's configuration.
func Landlock(writable []string, tcp bool) error {
	return restrict(tcp, landlock.RODirs("/"), landlock.RWDirs(writable...))
}

// Seal takes from this process, for good, every right to files and TCP: what
// it has open is all that it has. Landlock knows neither UDP nor multipath TCP:
// who must have no network at all has a namespace of its own, too.
func Seal() error { return restrict(false) }

func restrict(tcp bool, rules ...landlock.Rule) error {
	if err := checkABI(); err != nil {
		return err
	}
	if os.Getpid() == 1 {
		if err := settle(); err != nil {
			return err
		}
	}
	config := landlock.V7
	if tcp {
		config.HandledAccessNet = 0
	}
	// Best effort beyond minABI: newer kernels restrict signals and abstract
	// sockets as well (ABI 6).
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("cannot restrict files and network: %w", err)
	}
	return nil
}

// checkABI refuses kernels without Landlock, on which best effort would
// silently do nothing.
func checkABI() error {
	const versionFlag = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, versionFlag)
	if errno != 0 {
		return fmt.Errorf("cannot use Landlock: %w: boot with landlock in the lsm= list", errno)
	}
	if abi < minABI {
		return errors.New("cannot use Landlock: too old: Linux 6.8 or newer is needed")
	}
	return nil
}
