package nest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
)

// ownDir holds what is a guest's own on the nest's disk. No user of the host
// may pass through its parent: what a guest writes there may have the
// set-user-ID bit, and on the host is root's.
func (n *Nest) ownDir(guest string) string { return n.path("guests", guest) }

// droppedPrefix starts the names of directories of guests that are gone. No
// guest's name starts with a dot.
const droppedPrefix = ".dropped-"

// Upper gives a guest a writable directory of its own in its view.
func (n *Nest) Upper(ctx context.Context, guest string, peer *attach.Peer, request api.UpperRequest) (*api.UpperResponse, error) {
	if err := checkLayers(nil, request.View); err != nil {
		return nil, err
	}
	dir, hostUserNS, err := n.makeUpper(ctx, guest)
	if err != nil {
		return nil, err
	}
	identity := attach.Identity{HostUserNS: hostUserNS}
	if err := n.Attacher.AttachUpper(ctx, peer, identity, n.viewDir(guest), request.View, dir, api.UpperName); err != nil {
		return nil, err
	}
	return &api.UpperResponse{Path: path.Join(request.View, api.UpperName)}, nil
}

// makeUpper makes the directory, unless the guest is gone.
func (n *Nest) makeUpper(ctx context.Context, guest string) (dir string, hostUserNS bool, err error) {
	n.guestMu.Lock()
	defer n.guestMu.Unlock()
	g, err := n.guest(ctx, guest)
	if err != nil {
		return "", false, err
	}
	if g.RootUser != 0 {
		// It would be mounted for virtiofsd, which shares nothing to write to.
		return "", false, fmt.Errorf("cannot make the upper of guest %s: it is a virtual machine: %w", guest, attach.ErrUnsupported)
	}
	dir = filepath.Join(n.ownDir(guest), api.UpperName)
	if _, err := os.Lstat(dir); err == nil {
		return dir, g.HostUserNS, nil
	}
	for _, step := range []struct {
		dir  string
		mode fs.FileMode
	}{{n.path("guests"), 0o700}, {n.ownDir(guest), 0o700}, {dir, 0o755}} {
		if err := n.Disk.MkdirAll(step.dir, step.mode); err != nil {
			return "", false, fmt.Errorf("cannot make the upper of guest %s: %w", guest, err)
		}
	}
	return dir, g.HostUserNS, nil
}

// dropOwnDir removes what was a guest's own. From the first step on no guest
// of that name can get it.
func (n *Nest) dropOwnDir(guest string) error {
	dropped := n.path("guests", droppedPrefix+rand.Text())
	err := n.Disk.Rename(n.ownDir(guest), dropped)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = n.Disk.SyncDir(n.path("guests"))
	}
	if err == nil {
		err = n.Disk.RemoveAll(dropped)
	}
	if err != nil {
		return fmt.Errorf("cannot remove the upper of guest %s: %w", guest, err)
	}
	return nil
}

// recoverOwnDirs removes what guests have left that are not registered.
func (n *Nest) recoverOwnDirs(registered map[string]bool) error {
	entries, err := os.ReadDir(n.path("guests"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case registered[name]:
			continue
		case strings.HasPrefix(name, droppedPrefix):
			err = n.Disk.RemoveAll(n.path("guests", name))
		default:
			err = n.dropOwnDir(name)
		}
		if err != nil {
			n.Log.Warn("cannot remove what a guest that is gone has left", "guest", name, "err", err)
		}
	}
	return nil
}
