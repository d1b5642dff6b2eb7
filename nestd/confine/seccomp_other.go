//go:build !amd64 && !arm64

package confine

// auditArch is what seccomp_data.arch must be; 0: there is no list.
const auditArch uint32 = 0

// deniedHere returns those that only this architecture has.
func deniedHere() []uint32 { return nil }
