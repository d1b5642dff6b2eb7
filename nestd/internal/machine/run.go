package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/repo/durable"
)

// Options say what is shared with a machine, and where it finds that.
type Options struct {
	Directory string                                // the guest's, on the host
	Sockets   string                                // directory for the machine's sockets; Run makes it
	UID, GID  int                                   // whose the sockets are: the user that runs QEMU
	RootUser  func(context.Context) (uint32, error) // the first of 65536 users of the host that the children have; asked when nobody else serves the machine
	Virtiofsd string                                // its path; empty: where Debian and others have it
	Command   []string                              // starts this program again, as [Inside]
	Stderr    io.Writer
	Log       *slog.Logger
	Ready     func() // called when a machine may connect
}

// The sockets of a machine, in Options.Sockets.
const (
	FilesSocket   = "fs.sock"      // vhost-user-fs: virtiofsd
	ChannelSocket = "channel.sock" // the serial port: the relay
)

// ErrInUse is returned, wrapped, for a machine that is served already.
var ErrInUse = errors.New("somebody serves this machine already")

// users is how many users a user namespace has, from RootUser on.
const users = 1 << 16

// usualPlaces are where distributions have virtiofsd.
var usualPlaces = []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"}

// Run serves one machine, also when it is switched off and on again, until
// ctx ends. The error wraps [ErrInUse] if somebody else serves it.
func Run(ctx context.Context, o Options) error {
	program, err := findVirtiofsd(o.Virtiofsd)
	if err != nil {
		return err
	}
	sockets, err := listen(o)
	if err != nil {
		return fmt.Errorf("cannot serve the machine: %w", err)
	}
	defer sockets.close()
	rootUser, err := o.RootUser(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	started := make(chan error, 1)
	go func() { ended <- runInside(ctx, o, rootUser, program, sockets, started) }()
	if err := <-started; err != nil {
		return fmt.Errorf("cannot serve the machine: %w", err)
	}
	o.Ready()
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("cannot serve the machine any longer: %w", err)
}

func findVirtiofsd(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	for _, place := range usualPlaces {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		}
	}
	path, err := exec.LookPath("virtiofsd")
	if err != nil {
		return "", fmt.Errorf("cannot share files with the machine: virtiofsd is not installed: %w", fs.ErrNotExist)
	}
	return path, nil
}

// sockets are what a machine connects to.
type sockets struct {
	dir   string
	lock  *os.File
	files []*os.File // listening: FilesSocket, ChannelSocket
}

// listen makes the sockets, in place of those of an earlier run.
func listen(o Options) (_ *sockets, err error) {
	disk := durable.Disk{}
	if err := disk.MkdirAll(filepath.Dir(o.Sockets), 0o711); err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(o.Sockets, 0o711); err != nil {
		return nil, err
	}
	s := &sockets{dir: o.Sockets}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.lock, err = os.Open(o.Sockets); err != nil {
		return nil, err
	}
	if err := durable.TryLock(s.lock); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", o.Sockets, ErrInUse), s.lock.Close())
	}
	for _, name := range []string{FilesSocket, ChannelSocket} {
		f, err := listenAt(filepath.Join(o.Sockets, name), o.UID, o.GID)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

func listenAt(path string, uid, gid int) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close() // the file goes on listening
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return nil, err
	}
	return listener.File()
}

// close removes the sockets: a machine that connects to one is told at once
// that nobody listens.
func (s *sockets) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
	if s.files != nil {
		for _, name := range []string{FilesSocket, ChannelSocket} {
			_ = os.Remove(filepath.Join(s.dir, name)) // the next run does, too
		}
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// runInside runs the machine's namespace until its first process ends. The
// thread has changed its mounts and ends with the goroutine; the child is
// killed when it does.
func runInside(ctx context.Context, o Options, rootUser uint32, virtiofsd string, s *sockets, started chan<- error) error {
	runtime.LockOSThread()
	cmd, err := prepare(ctx, o, rootUser, virtiofsd, s)
	if err == nil {
		err = cmd.Start()
	}
	started <- err
	if err != nil {
		return err
	}
	return cmd.Wait()
}

func prepare(ctx context.Context, o Options, rootUser uint32, virtiofsd string, s *sockets) (*exec.Cmd, error) {
	if err := bindDirectory(o.Directory, virtiofsd); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, o.Command[0], append(o.Command[1:], virtiofsd)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = o.Stderr, o.Stderr
	cmd.ExtraFiles = s.files
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(rootUser), Size: users}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Groups: []uint32{}},
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	return cmd, nil
}

// bindDirectory gives the thread mounts of its own, all read-only, with the
// guest's directory where guests have it and nothing else of the host's but
// programs, virtiofsd's among them.
// The copy that the child's user namespace gets of them is locked
// (mount_namespaces(7)): it can not be made writable, nor taken away.
func bindDirectory(dir, virtiofsd string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	// A slave: what the host unmounts must not stay busy in here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cannot separate mounts: %w", err)
	}
	// Nobody in here has anything to write on the host, nor to become.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("cannot make the host's mounts read-only: %w", err)
	}
	// But for what the child's users are told through; it mounts another.
	writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/proc", 0, &writable); err != nil {
		return fmt.Errorf("cannot keep /proc writable: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open the guest's directory: %w", &fs.PathError{Op: "open", Path: dir, Err: err})
	}
	defer unix.Close(fd)
	if err := hideHost(virtiofsd); err != nil {
		return err
	}
	run := filepath.Dir(api.GuestDir)
	if err := unix.Mount("run", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("cannot hide %s: %w", run, err)
	}
	if err := unix.Mkdir(api.GuestDir, 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", api.GuestDir, err)
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), api.GuestDir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind the guest's directory: %w", err)
	}
	attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	if err := unix.MountSetattr(unix.AT_FDCWD, api.GuestDir, 0, &attr); err != nil {
		return fmt.Errorf("cannot make the guest's directory read-only: %w", err)
	}
	return nil
}
