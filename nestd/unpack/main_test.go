package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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
// error, which is what is wanted, or a file list if the attack worked.
func attack(name string, args []string) int {
	out := newSender(os.NewFile(answerFD, "answer"))
	act, ok := attacks[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "no attack", name)
		return 2
	}
	err := confined(args, firstFD, func() error {
		if err := act(); err != nil {
			return fmt.Errorf("held: %w", err)
		}
		return nil
	})
	if err == nil {
		err = errors.Join(out.send(sendsList, []byte("the attack worked")), out.out.Flush())
	} else {
		err = out.refuse(err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// misbehave is a child that does not keep to the protocol.
func misbehave(how string) int {
	answer := os.NewFile(answerFD, "answer")
	out := newSender(answer)
	list := func() error { return out.send(sendsList, []byte("[]")) }
	var err error
	switch how {
	case "say nothing":
	case "crash":
		panic("crash\x1b[31m")
	case "exit early":
		return 3
	case "hang":
		time.Sleep(time.Hour)
	case "hang in a file":
		err = errors.Join(list(), out.file(0, 10), out.send(sendsContent, []byte("12345")), out.out.Flush())
		time.Sleep(time.Hour)
	case "close and hang":
		err = answer.Close()
		time.Sleep(time.Hour)
	case "garbage":
		_, err = answer.WriteString("HTTP/1.1 200 OK")
	case "endless list":
		_, err = answer.Write(head(sendsList, 1<<40))
	case "endless record":
		err = errors.Join(list(), out.out.Flush(), write(answer, head(sendsRecord, 1<<40)))
	case "endless reason":
		err = write(answer, head(refuses, 1<<40))
	case "cut short":
		err = write(answer, head(sendsList, 100))
	case "cut in a file":
		err = errors.Join(list(), out.file(0, 10), out.out.Flush(), write(answer, head(sendsContent, 10)), write(answer, []byte("12345")))
	case "content without a file":
		err = errors.Join(list(), out.send(sendsContent, []byte("x")))
	case "more content than it said":
		err = errors.Join(list(), out.file(0, 2), out.send(sendsContent, []byte("xxx")))
	case "empty content":
		err = errors.Join(list(), out.file(0, 2), out.send(sendsContent, nil))
	case "a file in a file":
		err = errors.Join(list(), out.file(0, 2), out.file(1, 2))
	case "a short file message":
		err = errors.Join(list(), out.send(sendsFile, []byte("x")))
	case "a huge file":
		err = errors.Join(list(), out.file(0, math.MaxInt64))
	case "a negative file":
		err = errors.Join(list(), out.file(0, -1))
	case "many files":
		err = list()
		for i := range 20 {
			err = errors.Join(err, out.file(i, 100<<10))
			_, writeErr := out.Write(make([]byte, 100<<10))
			err = errors.Join(err, writeErr)
		}
	case "two lists":
		err = errors.Join(list(), list())
	case "escape sequences":
		err = out.refuse(errors.New("\x1b[2J\nall is \xff well"))
	case "refuse in a file":
		err = errors.Join(list(), out.file(0, 10), out.send(sendsContent, []byte("12345")), out.refuse(errors.New("the rest is damaged")))
	case "leave something behind":
		child := exec.Command("/proc/self/exe", "sleeper", os.Args[3])
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err = child.Start(); err == nil {
			err = errors.Join(list(), out.send(sendsRecord, []byte("left")))
		}
	}
	if err = errors.Join(err, out.out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// head is the head of a message.
func head(kind byte, size uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kind}, size) }

func write(f *os.File, b []byte) error { _, err := f.Write(b); return err }

// attacks return nil if they worked.
var attacks = map[string]func() error{
	"write elsewhere":    func() error { return os.WriteFile("/tmp/stork-escaped", nil, 0o600) },
	"write here":         func() error { return os.WriteFile("7", nil, 0o600) },
	"write to the blob":  func() error { _, err := unix.Pwrite(0, []byte("x"), 0); return err },
	"reopen the blob":    func() error { return reopen("/proc/self/fd/0") },
	"empty the blob":     func() error { return unix.Ftruncate(0, 0) },
	"chmod the blob":     func() error { return unix.Fchmod(0, 0o666) },
	"touch the blob":     func() error { return unix.UtimesNanoAt(0, "", nil, unix.AT_EMPTY_PATH) },
	"read a file":        func() error { _, err := os.ReadFile("/etc/hostname"); return err },
	"list a directory":   func() error { _, err := os.ReadDir("/"); return err },
	"make a symlink":     func() error { return os.Symlink("/etc/passwd", "7") },
	"make a directory":   func() error { return os.Mkdir("7", 0o700) },
	"make a fifo":        func() error { return unix.Mkfifo("7", 0o600) },
	"make a socket":      func() error { return unix.Mknod("7", unix.S_IFSOCK|0o600, 0) },
	"make a device":      func() error { return unix.Mknod("7", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))) },
	"link a file":        func() error { return os.Link("/etc/hostname", "7") },
	"set an attribute":   func() error { return unix.Fsetxattr(0, "user.x", []byte("y"), 0) },
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
	"change owner":       func() error { return unix.Fchown(0, 1, 1) },
	"have supplementary groups": func() error {
		groups, err := os.Getgroups()
		if err == nil && len(groups) == 0 {
			return errors.New("none")
		}
		return err
	},
	"have capabilities": capabilities,
	"gain privileges":   func() error { return privileges() },
	"kill everything":   func() error { return unix.Kill(-1, unix.SIGKILL) },
	"raise a limit":     func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40}) },
	"dump core":         func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) },
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

func reopen(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
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
