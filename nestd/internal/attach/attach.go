package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Attacher mounts layers of one store. Its methods may be called from several
// goroutines; calls for one guest wait for each other. It writes nothing but
// empty directories, which are mount points.
type Attacher struct {
	log       *slog.Logger
	locked    *os.File // mount namespace whose root is the layers
	ownMounts inode    // the nest's mount namespace
	ownUsers  inode    // the nest's user namespace
	guests    *keyedLocks
}

// Open prepares to mount layers below layersDir, where each lies at ab/<hex>,
// ab being the first two digits of the package ID. It changes nothing on the
// host. The error wraps [ErrUnsupported] if the kernel is too old.
func Open(ctx context.Context, layersDir string, log *slog.Logger) (*Attacher, error) {
	if err := CheckKernel(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(layersDir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the layers: %w", err)
	}
	a := &Attacher{log: log, guests: newKeyedLocks()}
	if a.ownMounts, err = inodeAt("/proc/self/ns/mnt"); err != nil {
		return nil, fmt.Errorf("cannot identify the nest's mount namespace: %w", err)
	}
	if a.ownUsers, err = inodeAt("/proc/self/ns/user"); err != nil {
		return nil, fmt.Errorf("cannot identify the nest's user namespace: %w", err)
	}
	warnOfFlags(dir, log)
	if a.locked, err = lockedNamespace(ctx, dir); err != nil {
		return nil, err
	}
	return a, nil
}

func inodeAt(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return inode{}, err
	}
	return inode{st.Dev, st.Ino}, nil
}

// warnOfFlags tells the operator of mount options that guests inherit.
func warnOfFlags(dir string, log *slog.Logger) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return // what follows fails with a better error
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		log.Warn("store is mounted noexec: guests can not run programs from it", "path", dir)
	}
	if st.Flags&unix.ST_NOSUID != 0 {
		log.Warn("store is mounted nosuid: setuid programs and capabilities do not work in guests", "path", dir)
	}
}

// Close releases the namespace. What is attached stays so.
func (a *Attacher) Close() error { return a.locked.Close() }

// Attach mounts layers in the guest's view at <view>/<hex>; one that is there
// already is left. hostView is the directory that the nest made on the host,
// guestView the path by which the guest says that it sees it. Either all
// layers are attached, or none is that was not before.
//
// Errors wrap [ErrNotEntitled], [ErrNotAttached], [ErrUnsupported] and
// [ErrNoLayer], or are failures of the host. If ctx ends first, Attach
// returns its error, and what was begun is finished in the background.
func (a *Attacher) Attach(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, layers []string) error {
	if err := a.inGuest(ctx, peer, want, hostView, guestView, layers, (*job).attach); err != nil {
		return fmt.Errorf("cannot attach to the guest: %w", err)
	}
	return nil
}

// Detach takes layers out of the guest's view, and out of every namespace
// that has a copy of it, and removes their mount points. A layer that is not
// attached is no error, nor is a guest that has ended. Processes that use
// files of a layer keep them.
func (a *Attacher) Detach(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, layers []string) error {
	err := a.inGuest(ctx, peer, want, hostView, guestView, layers, (*job).detach)
	if err == nil || errors.Is(err, ErrNotAttached) && peer.alive() != nil {
		err = a.removePoints(ctx, hostView, layers)
	}
	if err != nil {
		return fmt.Errorf("cannot detach from the guest: %w", err)
	}
	return nil
}

// job is one call for one guest, on a thread of its own. It owns its
// descriptors, for it may outlive the call.
type job struct {
	*Attacher
	guest    *guest
	host     *os.File // O_PATH: hostView
	view     *os.File // O_PATH: the same directory, by the guest's mounts
	viewPath string
	layers   []string
}

func (j *job) close() {
	j.guest.close()
	_ = j.guest.peer.Close()
	for _, f := range []*os.File{j.host, j.view} {
		if f != nil {
			_ = f.Close() // opened for its path only
		}
	}
}

// inGuest runs do on a thread that may enter namespaces, once it is this
// guest's turn.
func (a *Attacher) inGuest(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, layers []string, do func(*job) error) error {
	layers = slices.Compact(slices.Sorted(slices.Values(layers)))
	for _, layer := range layers {
		if !isLayerName(layer) {
			return fmt.Errorf("%q is no package ID", layer)
		}
	}
	unlock, err := a.guests.lock(ctx, hostView)
	if err != nil {
		return err
	}
	mine, err := peer.dup()
	if err != nil {
		unlock()
		return err
	}
	// A guest can make path lookup hang, with a FUSE file system for
	// example. It then blocks this one thread and its own later calls.
	return onThread(ctx, func() error {
		defer unlock()
		g, err := a.openGuest(mine, want)
		if err != nil {
			return errors.Join(err, mine.Close())
		}
		j := &job{Attacher: a, guest: g, viewPath: guestView, layers: layers}
		defer j.close()
		if err := j.open(hostView); err != nil {
			return err
		}
		return do(j)
	})
}

// open opens the view from both sides.
func (j *job) open(hostView string) (err error) {
	if j.host, err = openHostView(hostView); err != nil {
		return err
	}
	made, err := inodeOf(int(j.host.Fd()))
	if err != nil {
		return fmt.Errorf("cannot identify the view: %w", err)
	}
	j.view, err = j.guest.openView(j.viewPath, made)
	return err
}

func openHostView(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the view: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}

// isLayerName says whether s is a SHA-256 digest in lower-case hexadecimal,
// and so a name that can not lead anywhere else.
func isLayerName(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
