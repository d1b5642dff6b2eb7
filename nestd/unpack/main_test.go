package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the child: the real one, or one that was
// taken over and tries to get out.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "unpacker":
			os.Exit(Main(os.Args[2:]))
		case "bad":
			os.Exit(misbehave(os.Args[2]))
		case "sleeper":
			time.Sleep(time.Hour)
		case "attacker":
			os.Exit(attack(os.Args[2], os.Args[3:]))
		}
	}
	os.Exit(m.Run())
}

// attack confines itself as the real child does, and then runs one of the
// attacks. It gives its parent's test an answer: refused with the attack's
// error, which is what is wanted, or unpacked if the attack worked.
func attack(name string, args []string) int {
	answer := os.NewFile(answerFD, "answer")
	act, ok := attacks[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "no attack", name)
		return 2
	}
	err := confined(args, func(int64) error {
		if err := act(); err != nil {
			return fmt.Errorf("held: %w", err)
		}
		return nil
	})
	if err == nil {
		err = writeUnpacked(answer, Result{Record: []byte("the attack worked")})
	} else {
		err = writeRefused(answer, err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// misbehave is a child that does not keep to the protocol.
func misbehave(how string) int {
	answer := os.NewFile(answerFD, "answer")
	var err error
	switch how {
	case "say nothing":
	case "crash":
		panic("crash\x1b[31m")
	case "exit early":
		return 3
	case "hang":
		time.Sleep(time.Hour)
	case "garbage":
		_, err = answer.WriteString("HTTP/1.1 200 OK")
	case "endless record":
		_, err = answer.Write(appendLength([]byte{saysUnpacked}, 1<<40))
	case "endless list":
		_, err = answer.Write(appendLength(appendString([]byte{saysUnpacked}, nil), 1<<40))
	case "too much":
		err = errors.Join(writeUnpacked(answer, Result{}), writeUnpacked(answer, Result{}))
	case "cut short":
		_, err = answer.Write(appendLength([]byte{saysUnpacked}, 100))
	case "escape sequences":
		err = writeRefused(answer, errors.New("\x1b[2J\nall is \xff well"))
	case "leave something behind":
		child := exec.Command("/proc/self/exe", "sleeper", os.Args[3])
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err = child.Start(); err == nil {
			err = writeUnpacked(answer, Result{Record: []byte("left")})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func appendLength(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// attacks return nil if they worked.
var attacks = map[string]func() error{
	"write elsewhere":    func() error { return os.WriteFile("/tmp/stork-escaped", nil, 0o600) },
	"write above":        func() error { return os.WriteFile("../escaped", nil, 0o600) },
	"read a file":        func() error { _, err := os.ReadFile("/etc/hostname"); return err },
	"list a directory":   func() error { _, err := os.ReadDir("/"); return err },
	"make a symlink":     func() error { return os.Symlink("/etc/passwd", "7") },
	"make a directory":   func() error { return os.Mkdir("7", 0o700) },
	"make a fifo":        func() error { return unix.Mkfifo("7", 0o600) },
	"make a socket":      func() error { return unix.Mknod("7", unix.S_IFSOCK|0o600, 0) },
	"make a device":      func() error { return unix.Mknod("7", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))) },
	"link a file":        func() error { return os.Link("/etc/hostname", "7") },
	"set an attribute":   func() error { return withFile(func() error { return unix.Setxattr("7", "user.x", []byte("y"), 0) }) },
	"set an ACL":         func() error { return unix.Setxattr(".", "system.posix_acl_default", []byte{2, 0, 0, 0}, 0) },
	"TCP":                func() error { return dial("tcp", "127.0.0.1:9") },
	"UDP":                func() error { return dial("udp", "127.0.0.1:9") },
	"unix socket":        func() error { return dial("unix", "@/stork-test") },
	"netlink":            func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err },
	"run a program":      func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
	"run itself":         func() error { return unix.Exec("/proc/self/exe", []string{"x", "-test.run=xxx"}, nil) },
	"fork":               func() error { return clone(uintptr(unix.SIGCHLD)) },
	"new user namespace": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"fork into one":      func() error { return clone(unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)) },
	"mount":              func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"chroot":             func() error { return unix.Chroot(".") },
	"trace its parent":   func() error { return unix.PtraceAttach(os.Getppid()) },
	"trace process 1":    func() error { return unix.PtraceAttach(1) },
	"become somebody":    func() error { return unix.Setuid(1) },
	"change owner":       func() error { return withFile(func() error { return os.Chown("7", 1, 1) }) },
	"have supplementary groups": func() error {
		groups, err := os.Getgroups()
		if err == nil && len(groups) == 0 {
			return errors.New("none")
		}
		return err
	},
	"have capabilities":  capabilities,
	"gain privileges":    func() error { return privileges() },
	"kill everything":    func() error { return unix.Kill(-1, unix.SIGKILL) },
	"raise a limit":      func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40}) },
	"write a large file": func() error { return withFile(func() error { return os.Truncate("7", 1<<30) }) },
	"dump core":          func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) },
	"use io_uring": func() error {
		var params [120]byte
		if _, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])), 0); errno != 0 {
			return errno
		}
		return nil
	},
	"find a descriptor": func() error {
		for fd := firstFD; fd < 64; fd++ {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err == nil && flags&unix.FD_CLOEXEC == 0 {
				return nil
			}
		}
		return errors.New("none")
	},
	"see the environment": func() error {
		if env := os.Environ(); len(env) != 0 {
			return nil
		}
		return errors.New("empty")
	},
}

func withFile(act func() error) error {
	if err := os.WriteFile("7", []byte("x"), 0o600); err != nil {
		return errors.Join(errors.New("could not even write"), err)
	}
	return act()
}

func dial(network, address string) error {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// clone starts a process that ends at once.
func clone(flags uintptr) error {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return nil
}

func capabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	for _, d := range data {
		if d.Effective|d.Permitted|d.Inheritable != 0 {
			return nil
		}
	}
	return errors.New("none")
}

func privileges() error {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && set == 1 {
		return errors.New("no_new_privs is set")
	}
	return err
}
