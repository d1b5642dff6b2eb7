package attach

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// resolveCached is RESOLVE_CACHED (Linux 5.12, openat2.h).
const resolveCached = 0x20

// findView opens the guest's view by the guest's path. What the kernel has
// looked up already costs nothing and waits for nobody (RESOLVE_CACHED), and
// that is the rule. Anything else might wait for the guest, for ever and
// without an end by a signal, as with [Attacher.Place]: a placer does that.
func (a *Attacher) findView(g *guest, path string, want inode) (*os.File, error) {
	view, err := g.openView(path, want, resolveCached)
	if !errors.Is(err, unix.EAGAIN) {
		return view, err
	}
	view, err = a.askForView(g, path, want)
	if err != nil {
		return nil, err
	}
	// It is the placer's word so far.
	got, err := inodeOf(int(view.Fd()))
	if err == nil && got != want {
		err = fmt.Errorf("cannot use the view %q: it is not the directory that the nest made: %w", path, ErrNotAttached)
	}
	if err != nil {
		_ = view.Close() // opened for its path only
		return nil, err
	}
	return view, nil
}

func (a *Attacher) askForView(g *guest, path string, want inode) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the view: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "view"), os.NewFile(uintptr(fds[1]), "view")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, fmt.Errorf("cannot ask for the view: %w", err)
	}
	defer conn.Close()
	request, err := json.Marshal(&placeRequest{View: path, ViewDev: want.dev, ViewIno: want.ino, Find: true})
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the view: %w", err)
	}
	ctx, end := context.WithTimeout(context.Background(), placeKill)
	defer end()
	cmd := exec.CommandContext(ctx, a.placer[0], a.placer[1:]...)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.Stdin, cmd.Stdout = bytes.NewReader(request), theirs
	for range placerFirst - placerLocked {
		cmd.ExtraFiles = append(cmd.ExtraFiles, g.root) // the only one that it uses
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("cannot open the view %q in the guest (%w): %w", path, err, ErrNotAttached)
	}
	return receiveView(conn.(*net.UnixConn), path)
}

// receiveView reads what a placer that has ended said.
func receiveView(conn *net.UnixConn, path string) (*os.File, error) {
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return nil, err
	}
	first, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := conn.ReadMsgUnix(first, rights)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the view: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), path), nil
		}
	}
	text := make([]byte, maxPlaceAnswer)
	rest, _ := conn.Read(text) // what there is
	var response placeResponse
	if err := json.Unmarshal(append(first[:n], text[:rest]...), &response); err != nil || response.Error == "" {
		return nil, fmt.Errorf("cannot ask for the view: the placer failed: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil, response.err()
}
