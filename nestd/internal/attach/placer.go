package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"stork/nestd/confine"
)

// The placer's inherited descriptors.
const (
	placerLocked = 3 + iota // mount namespace whose root is the layers
	placerMounts            // the guest's mount namespace
	placerUsers             // the user namespace that owns it
	placerRoot              // the guest's root directory
	placerPeer              // pidfd
	placerTable             // the guest's mountinfo
	placerFirst
)

// Limits of a placer. Each change may take two descriptors.
const (
	placerMemory    = 1 << 30
	placerOpenFiles = 4096
	placerSeconds   = 20
)

// moveMountBeneath is MOVE_MOUNT_BENEATH (Linux 6.5, mount.h).
const moveMountBeneath = 0x200

// maxPlacedOver bounds how many mounts on one path are taken away.
const maxPlacedOver = 8

// placer is one process that changes a guest's mounts, then ends. It holds
// everything by descriptor before it enters the guest, where it looks nothing
// up by a path that the guest could change.
type placer struct {
	request   placeRequest
	locked    *os.File
	mounts    *os.File
	users     *os.File
	root      *os.File
	peer      *Peer
	mountinfo *os.File
	hostInfo  *os.File // mountinfo of the nest
	fds       *os.File // the host's /proc/self/fd, to unmount by descriptor

	table      mountTable
	hostMounts []*mountinfo.Info
	rootMount  int
	shared     int // the mount of the directory that the nest has bound into the guest
	layers     map[string]*os.File
}

// PlacerMain is the whole life of a process that [Attacher.Place] starts. It
// returns the exit status.
func PlacerMain(in io.Reader, out io.Writer) int {
	runtime.LockOSThread()
	err := placerMain(in)
	if json.NewEncoder(out).Encode(responseOf(err)) != nil {
		return 1 // nobody is there to be told
	}
	return 0
}

func placerMain(in io.Reader) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("cannot read what to place: %w", err)
	}
	p := &placer{layers: map[string]*os.File{}}
	if err := json.Unmarshal(data, &p.request); err != nil {
		return fmt.Errorf("cannot read what to place: %w", err)
	}
	if err := p.confine(); err != nil {
		return err
	}
	file := func(fd int) *os.File { return os.NewFile(uintptr(fd), strconv.Itoa(fd)) }
	p.locked, p.mounts, p.users, p.root = file(placerLocked), file(placerMounts), file(placerUsers), file(placerRoot)
	p.peer, p.mountinfo = &Peer{pidfd: file(placerPeer)}, file(placerTable)
	return p.place()
}

// confine opens what the host's /proc is needed for, then gives up what
// placing does not need. Landlock can not be used: it forbids all changes of
// mounts.
func (p *placer) confine() error {
	if err := confine.CloseInherited(placerFirst); err != nil {
		return err
	}
	var err error
	if p.hostInfo, err = openProc("/proc/self/mountinfo", unix.O_RDONLY); err != nil {
		return err
	}
	if p.fds, err = openProc("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	if err := confine.SetLimits(confine.Limits{Memory: placerMemory, FileSize: 1, CPU: placerSeconds, OpenFiles: placerOpenFiles}); err != nil {
		return err
	}
	// A root of its own, not shared with the other threads, can be changed.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("cannot leave the nest's root: %w", err)
	}
	err = confine.KeepCapabilities(unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_DAC_READ_SEARCH)
	if err != nil {
		return err
	}
	return confine.Filter(unix.SYS_SETNS, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_UMOUNT2)
}

// step is a change on its way.
type step struct {
	*Change
	target *target
	tree   *os.File // detached mount; nil: it is there already
}

func (p *placer) place() error {
	if err := p.openView(); err != nil || p.request.Find {
		return err
	}
	steps := make([]step, len(p.request.Changes))
	for i := range steps {
		steps[i].Change = &p.request.Changes[i]
		var err error
		if steps[i].target, err = p.openTarget(steps[i].Path); err != nil {
			return err
		}
	}
	if err := p.readTable(); err != nil {
		return err
	}
	if err := setMounts(p.locked); err != nil {
		return err
	}
	for i := range steps {
		if err := p.prepare(&steps[i]); err != nil {
			return err
		}
	}
	if err := setMounts(p.mounts); err != nil {
		return err
	}
	// Everything here is the peer's if it still lives.
	if err := p.peer.alive(); err != nil {
		return err
	}
	for i := range steps {
		if err := p.do(&steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// openView finds out which mount of the guest is the nest's directory.
func (p *placer) openView() error {
	g := &guest{root: p.root}
	view, err := g.openView(p.request.View, inode{p.request.ViewDev, p.request.ViewIno}, 0)
	if err != nil {
		return err
	}
	defer view.Close()
	if p.request.Find {
		return unix.Sendmsg(unix.Stdout, []byte{0}, unix.UnixRights(int(view.Fd())), nil, 0)
	}
	if p.shared, err = mountOf(int(view.Fd())); err != nil {
		return err
	}
	p.rootMount, err = mountOf(int(p.root.Fd()))
	return err
}

// prepare checks a change, and clones what it mounts. The process is in the
// namespace that has only layers.
func (p *placer) prepare(s *step) error {
	if err := p.check(s.Path, s.target); err != nil {
		return err
	}
	if !s.Kind.mounts() {
		return nil
	}
	source, err := p.openSource(s.Change)
	if err != nil {
		return err
	}
	defer source.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %s in its layer: %w", s.Source, err)
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return fmt.Errorf("%s is neither file nor directory: %w", s.Source, ErrNoLayer)
	case kind != s.target.kind:
		return fmt.Errorf("%q is something else than in the package: %w", s.Path, ErrTarget)
	case s.target.root && s.target.inode == (inode{st.Dev, st.Ino}):
		return nil // it is there already
	case s.Kind.replaces() && (s.target.root || s.Kind == Relieve) && !p.ours(s.target):
		return errForeign(s.Path)
	}
	if err := p.checkPropagation(s.target); err != nil {
		return err
	}
	return p.clone(s, source)
}

// openSource opens a path of a layer.
func (p *placer) openSource(c *Change) (*os.File, error) {
	layer := p.layers[c.Layer]
	if layer == nil {
		fd, err := unix.Open("/"+c.Layer[:2]+"/"+c.Layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open layer %s (%w): %w", c.Layer, err, ErrNoLayer)
		}
		layer = os.NewFile(uintptr(fd), c.Layer)
		p.layers[c.Layer] = layer
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := openat2(int(layer.Fd()), c.Source[1:], &how)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in layer %s (%w): %w", c.Source, c.Layer, err, ErrNoLayer)
	}
	return os.NewFile(uintptr(fd), c.Source), nil
}

func (p *placer) clone(s *step, source *os.File) error {
	fd, err := unix.OpenTree(int(source.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", s.Source, err)
	}
	s.tree = os.NewFile(uintptr(fd), s.Source)
	return mapIDs(fd, &guest{users: p.users, host: p.request.HostUsers, sameID: p.request.SameRoot})
}

// do makes a change. The process is in the guest.
func (p *placer) do(s *step) error {
	switch {
	case s.Kind == Remove:
		return p.remove(s, 1)
	case s.Kind == Clear:
		return p.remove(s, maxPlacedOver)
	case s.tree == nil:
		return nil
	case s.Kind.replaces() && s.target.root:
		return p.replace(s)
	}
	return p.move(s, 0)
}

func (p *placer) move(s *step, flags int) error {
	err := unix.MoveMount(int(s.tree.Fd()), "", int(s.target.file.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|flags)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC):
		// Not [unix.ENOSPC], which is the host's disk to whoever asks.
		return fmt.Errorf("cannot mount on %q: the guest has as many mounts as fs.mount-max allows: %w", s.Path, ErrTarget)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPERM):
		// It is not, or no longer, in the guest's mount namespace.
		return fmt.Errorf("cannot mount on %q (%w): %w", s.Path, err, ErrTarget)
	}
	return fmt.Errorf("cannot mount on %q: %w", s.Path, err)
}

// replace mounts beneath the nest's own mount, then takes that away. Where the
// kernel can not (a parent that propagates) there is a short moment without
// either, and the path is looked up and checked again.
func (p *placer) replace(s *step) error {
	beneath := p.move(s, moveMountBeneath)
	if err := p.detach(s); err != nil {
		return err
	}
	if beneath == nil {
		return nil
	}
	if err := p.reopen(s); err != nil {
		return err
	}
	if s.target.kind != unix.S_IFDIR && s.target.kind != unix.S_IFREG {
		return fmt.Errorf("%q is something else than in the package: %w", s.Path, ErrTarget)
	}
	if err := p.checkPropagation(s.target); err != nil {
		return err
	}
	return p.move(s, 0)
}

// reopen looks a change's path up again, and checks it, after the mount on it
// has gone.
func (p *placer) reopen(s *step) error {
	s.target.close()
	var err error
	if s.target, err = p.openTarget(s.Path); err != nil {
		return err
	}
	return p.check(s.Path, s.target)
}

// remove takes away up to n mounts of the nest's.
func (p *placer) remove(s *step, n int) error {
	if s.Kind == Remove && s.target.root && !p.ours(s.target) {
		return errForeign(s.Path)
	}
	for i := 0; i < n && p.ours(s.target); i++ {
		if err := p.detach(s); err != nil {
			return err
		}
		if err := p.reopen(s); err != nil {
			return err
		}
	}
	return nil
}

// detach unmounts by descriptor: umount2(2) takes a path, and this one is the
// host's.
func (p *placer) detach(s *step) error {
	err := unix.Fchdir(int(p.fds.Fd()))
	if err == nil {
		err = unix.Unmount(strconv.Itoa(int(s.target.file.Fd())), unix.MNT_DETACH)
	}
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		// It is not, or no longer, in the guest's mount namespace, or locked
		// there: that is a copy of another one's.
		return fmt.Errorf("cannot unmount %q (%w): %w", s.Path, err, ErrTarget)
	case err != nil:
		return fmt.Errorf("cannot unmount %q: %w", s.Path, err)
	}
	return nil
}
