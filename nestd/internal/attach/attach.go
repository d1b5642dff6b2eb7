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
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// threads is how many calls may mount at the same moment. The kernel changes
// the mounts of one namespace at a time anyway.
const threads = 4

// Attacher mounts layers of one store. Its methods may be called from several
// goroutines; calls for one guest wait for each other. It writes nothing but
// empty directories, which are mount points.
type Attacher struct {
	log       *slog.Logger
	workers   *workers
	ownMounts inode // the nest's mount namespace
	ownUsers  inode // the nest's user namespace
	guests    *keyedLocks
	placer    []string
	placers   chan struct{}
	storeDev  string
	storeRoot string
}

// Open prepares to mount layers below layersDir, where each lies at ab/<hex>,
// ab being the first two digits of the package ID. It changes nothing on the
// host. placer is the command that runs [PlacerMain]. The error wraps
// [ErrUnsupported] if the kernel is too old.
func Open(ctx context.Context, layersDir string, placer []string, log *slog.Logger) (*Attacher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckKernel(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(layersDir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the layers: %w", err)
	}
	a := &Attacher{log: log, guests: newKeyedLocks(), placer: placer, placers: make(chan struct{}, maxPlacers)}
	if a.storeDev, a.storeRoot, err = storeOn(dir); err != nil {
		return nil, err
	}
	if a.ownMounts, err = inodeAt("/proc/self/ns/mnt"); err != nil {
		return nil, fmt.Errorf("cannot identify the nest's mount namespace: %w", err)
	}
	if a.ownUsers, err = inodeAt("/proc/self/ns/user"); err != nil {
		return nil, fmt.Errorf("cannot identify the nest's user namespace: %w", err)
	}
	warnOfFlags(dir, log)
	warnOfLeases(leasesEnable, log)
	if a.workers, err = startWorkers(dir, threads, log); err != nil {
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

// leasesEnable says whether processes may take leases (proc_sys_fs(5)).
const leasesEnable = "/proc/sys/fs/leases-enable"

// warnOfLeases tells the operator that guests can make others wait: a lease
// that the root of one takes on a shared file, which it owns by its own user
// namespace, is the file's for all who open it. A clone of a mount can not
// forbid it, and only the host's operator can know who else uses leases.
func warnOfLeases(path string, log *slog.Logger) {
	value, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(value)) != "0" {
		log.Warn("leases are enabled: a guest can delay others that open a shared file", "hint", "sysctl fs.leases-enable=0")
	}
}

// Close ends the threads that mount. What is attached stays so; calls that
// have not begun to mount fail.
func (a *Attacher) Close() error { return a.workers.close() }

// Attach mounts layers in the guest's view at <view>/<hex>; one that is there
// already is left. hostView is the directory that the nest made on the host,
// guestView the path by which the guest says that it sees it. Either all
// layers are attached, or none is that was not before.
//
// Errors wrap [ErrNotEntitled], [ErrNotAttached], [ErrUnsupported] and
// [ErrNoLayer], or are failures of the host. If ctx ends first, Attach
// returns its error, and what was begun is finished in the background.
func (a *Attacher) Attach(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, layers []string) error {
	if err := a.inGuest(ctx, call{peer, want, hostView, guestView, layers, (*job).checkPropagation, (*job).attach}); err != nil {
		return fmt.Errorf("cannot attach to the guest: %w", err)
	}
	return nil
}

// Detach takes layers out of the guest's view, and out of every namespace
// that has a copy of it, and removes their mount points. A layer that is not
// attached is no error, nor is a guest that has ended. Processes that use
// files of a layer keep them.
func (a *Attacher) Detach(ctx context.Context, peer *Peer, want Identity, hostView, guestView string, layers []string) error {
	err := a.inGuest(ctx, call{peer, want, hostView, guestView, layers, nil, (*job).detach})
	if err == nil || errors.Is(err, ErrNotAttached) && peer.alive() != nil {
		err = a.removePoints(ctx, hostView, layers)
	}
	if err != nil {
		return fmt.Errorf("cannot detach from the guest: %w", err)
	}
	return nil
}

// call is what is asked for, and by whom.
type call struct {
	peer      *Peer
	want      Identity
	hostView  string
	guestView string
	layers    []string
	check     func(*job) error // on the nest's side, before anything is changed; or nil
	do        func(*job) error // on a worker
}

// job is one call for one guest. It owns its descriptors, for it may outlive
// the call.
type job struct {
	*Attacher
	guest  *guest
	host   *os.File // O_PATH: hostView
	view   *os.File // O_PATH: the same directory, by the guest's mounts
	upper  *os.File // detached mount, on its way to the guest; or nil
	layers []string

	progress atomic.Int64 // layers that are dealt with
}

func (j *job) close() {
	j.closeFiles()
	_ = j.guest.peer.Close() // a pidfd has nothing to lose
}

func (j *job) closeFiles() {
	j.guest.close()
	for _, f := range []*os.File{j.host, j.view, j.upper} {
		if f != nil {
			_ = f.Close() // opened for its path only
		}
	}
}

// inGuest runs c.do on a thread that may enter namespaces, once it is this
// guest's turn.
//
// A guest can make path lookup hang, with a FUSE file system for example. It
// then blocks its own later calls and nobody else's: threads are taken only
// when its path has been looked up, and are given up where the view itself, or
// a layer in it, holds them up.
func (a *Attacher) inGuest(ctx context.Context, c call) error {
	c.layers = slices.Compact(slices.Sorted(slices.Values(c.layers)))
	for _, layer := range c.layers {
		if !isLayerName(layer) {
			return fmt.Errorf("%q is no package ID", layer)
		}
	}
	unlock, err := a.guests.lock(ctx, c.hostView)
	if err != nil {
		return err
	}
	peer, err := c.peer.dup()
	if err != nil {
		unlock()
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer unlock()
		j, err := a.openJob(peer, c)
		if err != nil {
			done <- errors.Join(err, peer.Close())
			return
		}
		defer j.close()
		a.workers.do(ctx, &j.progress, func() error { return c.do(j) }, done)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openJob checks the peer and opens the view from both sides. The job owns
// the peer, if there is one.
func (a *Attacher) openJob(peer *Peer, c call) (_ *job, err error) {
	g, err := a.openGuest(peer, c.want)
	if err != nil {
		return nil, err
	}
	j := &job{Attacher: a, guest: g, layers: c.layers}
	defer func() {
		if err != nil {
			j.closeFiles()
		}
	}()
	if j.host, err = openHostView(c.hostView); err != nil {
		return nil, err
	}
	made, err := inodeOf(int(j.host.Fd()))
	if err != nil {
		return nil, fmt.Errorf("cannot identify the view: %w", err)
	}
	if j.view, err = a.findView(g, c.guestView, made); err != nil {
		return nil, err
	}
	if c.check != nil {
		if err := c.check(j); err != nil {
			return nil, err
		}
	}
	return j, nil
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
