package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
)

// Descriptors of [Inside], which also the relay and virtiofsd find at
// firstFile: their own one.
const (
	firstFile = 3
	filesFD   = firstFile
	channelFD = firstFile + 1
)

// relayUser is whom the relay runs as, in the namespace: not its root, so
// that it has no capability from its first instruction on.
const relayUser = 1

// shareOptions are virtiofsd's. It needs no sandbox of its own but the
// directory as its root, for it is in one. Capabilities of programs are
// attributes of files. What it may do as root it needs for reading what only
// root may read, and in the names of users of the machine; the rest is taken
// away.
var shareOptions = []string{
	"-o", "source=" + api.GuestDir, "-o", "sandbox=chroot", "-o", "xattr",
	"-o", "modcaps=-chown:-fowner:-fsetid:-mknod:-setfcap",
}

// cacheOptions say what the machine may remember. Content never changes under
// a name, so the machine need not read a file again each time that it opens
// it; but layers come and go, so names are to be looked up again after a
// second. Only the older virtiofsd, in C, can be told both. Of the one in
// Rust, which keeps either nothing of a file or names for a day, the former is
// wanted.
func cacheOptions(ctx context.Context, virtiofsd string) ([]string, error) {
	help, err := exec.CommandContext(ctx, virtiofsd, "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("cannot run virtiofsd: %w: %s", err, help)
	}
	if bytes.Contains(help, []byte("timeout=<number>")) {
		return []string{"-o", "cache=always", "-o", "timeout=1"}, nil
	}
	return []string{"-o", "cache=auto"}, nil
}

// Inside is the first process of the machine's namespaces. It runs virtiofsd,
// at the given path, and the relay, by relay, which is a command line, and
// starts virtiofsd again when the machine has been switched off. It returns
// when ctx or one of the two ends.
func Inside(ctx context.Context, virtiofsd string, relay []string, stderr io.Writer, log *slog.Logger) error {
	if os.Getpid() != 1 {
		return errors.New("cannot serve a machine: this is for nestd itself to start")
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	if err := raiseFiles(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- runRelay(ctx, relay, stderr) }()
	go func() { ended <- runVirtiofsd(ctx, virtiofsd, stderr, log) }()
	err := <-ended
	cancel()
	<-ended
	return err
}

// raiseFiles lets virtiofsd have as many files open as this process may: it
// holds one for each that the machine has looked at.
func raiseFiles() error {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		// Package syscall's, which has exec pass it on.
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		return fmt.Errorf("cannot raise the limit of open files: %w", err)
	}
	return nil
}

func command(ctx context.Context, line []string, fd uintptr, stderr io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(fd, "socket")}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

func runRelay(ctx context.Context, line []string, stderr io.Writer) error {
	cmd := command(ctx, line, channelFD, stderr)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: relayUser, Gid: relayUser, Groups: []uint32{}}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the relay has ended: %w", err)
	}
	return errors.New("the relay has ended")
}

// runVirtiofsd runs one after the other: it ends when the machine does.
func runVirtiofsd(ctx context.Context, path string, stderr io.Writer, log *slog.Logger) error {
	cache, err := cacheOptions(ctx, path)
	if err != nil {
		return err
	}
	line := slices.Concat([]string{path, fmt.Sprintf("--fd=%d", firstFile), "--rlimit-nofile=0", "-f"}, shareOptions, cache)
	for {
		if err := command(ctx, line, filesFD, stderr).Run(); err != nil {
			return fmt.Errorf("virtiofsd has ended: %w", err)
		}
		log.Info("the machine has let go of its files")
	}
}
