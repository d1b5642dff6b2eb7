package attach

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest kernel that the nest runs on. SO_PEERPIDFD came with 6.5;
// idmapped mounts, locked clones and statx mount IDs work as this package
// needs them from 6.8.
const (
	minMajor = 6
	minMinor = 8
)

// CheckKernel returns an error that wraps [ErrUnsupported] if the running
// kernel is older than Linux 6.8.
func CheckKernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("cannot read the kernel's version: %w", err)
	}
	return checkRelease(unix.ByteSliceToString(name.Release[:]))
}

func checkRelease(release string) error {
	major, minor, ok := parseRelease(release)
	if !ok {
		return fmt.Errorf("cannot read the kernel's version %q: %w", release, ErrUnsupported)
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("cannot run on Linux %s: need %d.%d or newer: %w", release, minMajor, minMinor, ErrUnsupported)
	}
	return nil
}

// parseRelease reads the first two numbers of a release such as
// "6.12.3-1-amd64" or "6.8-rc1".
func parseRelease(release string) (major, minor int, ok bool) {
	first, rest, found := strings.Cut(release, ".")
	if !found {
		return 0, 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(rest[:end])
	return major, minor, err1 == nil && err2 == nil
}
