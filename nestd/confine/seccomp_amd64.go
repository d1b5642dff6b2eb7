package confine

import "golang.org/x/sys/unix"

// auditArch is what seccomp_data.arch must be; 0: there is no list.
const auditArch uint32 = unix.AUDIT_ARCH_X86_64

// deniedHere returns those that only this architecture has.
func deniedHere() []uint32 { return []uint32{unix.SYS_FORK, unix.SYS_VFORK} }
