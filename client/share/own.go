package share

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// storkDir is where an overlay's working directories are, which must be on
// the file system of the guest's root.
const storkDir = "/var/lib/stork/overlay"

// own is the guest's own directories, without what is mounted on them. It is
// reached through another mount of the guest's root, without those below it,
// and that is also what an overlay's upper and working directory need to have
// in common.
type own struct {
	root     *os.File
	upper    *os.File // what the nest provides, where the guest's root is itself an overlay
	attached place    // where root is mounted, while overlays are built
}

// openOwn opens the guest's own directories. upper may be empty.
func (r *Root) openOwn(upper string) (*own, error) { return r.openBare(upper, baseName) }

// openToLook does the same for who builds no overlay, and perhaps beside
// somebody who does.
func (r *Root) openToLook(upper string) (*own, error) {
	o, err := r.openBare(upper, "look-"+rand.Text())
	if err != nil || o.attached.dir == nil {
		return o, err
	}
	// What has been taken apart stays so, and open.
	at := o.attached
	o.attached = place{}
	defer at.dir.Close() // only a reference
	err = detach(at, path.Join(storkDir, at.name))
	if err == nil {
		err = wrap(unix.Unlinkat(int(at.dir.Fd()), at.name, unix.AT_REMOVEDIR), "cannot remove %s/%s", storkDir, at.name)
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// baseName is where below storkDir the guest's own directories are mounted
// while an overlay is made of them.
const baseName = "base"

func (r *Root) openBare(upper, name string) (*own, error) {
	tree, err := cloneTree(r.dir, "", 0)
	if errors.Is(err, unix.EINVAL) {
		return r.openLocked(upper, name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach what lies below the guest's mounts: %w", err)
	}
	o := &own{root: tree}
	// Nothing that others mount is to appear in it.
	if err := makePrivate(tree, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach what lies below the guest's mounts: %w", err), o.close())
	}
	return o, o.openUpper(upper)
}

// openLocked does what openOwn does in a guest whose mounts, made by a user
// namespace with more rights, must not be taken apart (mount_namespaces(7)):
// they come along, and only ours are taken away again. For that they have to
// be mounted somewhere.
func (r *Root) openLocked(upper, name string) (*own, error) {
	tree, err := cloneTree(r.dir, "", unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("cannot reach what lies below the guest's mounts: %w", err)
	}
	o := &own{root: tree}
	err = makePrivate(tree, unix.AT_RECURSIVE)
	if err == nil {
		err = o.attach(r, name)
	}
	if err == nil {
		err = o.uncover(r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach what lies below the guest's mounts: %w", err), o.close())
	}
	return o, o.openUpper(upper)
}

// uncover takes the environments' mounts away that came along.
func (o *own) uncover(r *Root) error {
	table, err := r.mountTable()
	if err != nil {
		return err
	}
	for _, e := range table {
		if path.Dir(e.target) != "/" || !e.isOurs() {
			continue
		}
		if err := detach(place{o.root, e.target[1:]}, e.target); err != nil {
			return err
		}
	}
	return nil
}

// openLive opens the guest's directories with all that is mounted on them.
func (r *Root) openLive(upper string) (*own, error) {
	dir, err := r.plain("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("cannot open the guest's root: %w", err)
	}
	o := &own{root: dir}
	return o, o.openUpper(upper)
}

// openUpper opens what the nest provides. On an error nothing is left open.
func (o *own) openUpper(upper string) error {
	if upper == "" {
		return nil
	}
	fd, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot open the directory for the guest's changes at %s: %w", upper, err), o.close())
	}
	o.upper = os.NewFile(uintptr(fd), upper)
	return nil
}

func (o *own) close() error {
	var err error
	if o.attached.dir != nil {
		err = detach(o.attached, path.Join(storkDir, o.attached.name))
		o.attached.dir.Close() // only a reference
	}
	if o.upper != nil {
		o.upper.Close() // only a reference
	}
	return errors.Join(err, o.root.Close())
}

// attach mounts root somewhere, since only a mount of the caller's namespace
// can be part of an overlay (before Linux 6.15).
func (o *own) attach(r *Root, name string) error {
	if o.attached.dir != nil {
		return nil
	}
	dir, err := makeDirs(r.dir, storkDir)
	if err != nil {
		return err
	}
	at := place{dir, name}
	if err := unix.Mkdirat(int(dir.Fd()), at.name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot make %s/%s: %w", storkDir, name, err)
	}
	if err := r.unmountAt(at, path.Join(storkDir, name)); err != nil { // of an earlier attempt
		return err
	}
	if err := moveTree(o.root, at, 0); err != nil {
		return fmt.Errorf("cannot mount on %s/%s: %w", storkDir, name, err)
	}
	o.attached = at
	return nil
}

// makeDirs opens a directory below root, and makes it if it is not there. Of
// what is in it nothing needs to be durable.
func makeDirs(root *os.File, p string) (*os.File, error) {
	f, err := openBelow(root, p, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT)
	if !missing(err) || p == "/" {
		return f, wrap(err, "cannot open %s", p)
	}
	parent, err := makeDirs(root, path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	mode := uint32(0o755)
	if p == storkDir {
		mode = 0o700
	}
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(p), mode); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("cannot make %s: %w", p, err)
	}
	f, err = openBelow(root, p, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT)
	return f, wrap(err, "cannot open %s", p)
}

// upperName is where the nest's directory holds what belongs on top of one of
// the guest's directories.
func upperName(dir string) string { return strings.TrimPrefix(dir, "/") + "/up" }

// stack returns one of the guest's top directories as it is without
// environments. It may be missing.
func (o *own) stack(dir string) (*stack, error) {
	s := &stack{}
	open := func(f *os.File, name string) error {
		d, err := openBelow(f, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if missing(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot open the guest's own %s: %w", dir, err)
		}
		s.layers = append(s.layers, stackLayer{dir: d})
		return nil
	}
	var err error
	if o.upper != nil {
		err = open(o.upper, upperName(dir))
	}
	if err == nil {
		err = open(o.root, dir)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// find returns what the guest itself has at a path.
func (o *own) find(p string) (merged, error) {
	top, rest, deeper := strings.Cut(p[1:], "/")
	if !deeper {
		st, err := statAt(int(o.root.Fd()), top)
		if missing(err) {
			return merged{}, nil
		}
		return merged{info: st, there: err == nil, name: top}, err
	}
	st, err := statAt(int(o.root.Fd()), top)
	if missing(err) || err == nil && !st.isDir() {
		return merged{}, nil
	}
	s, err := o.stack("/" + top)
	if err != nil {
		return merged{}, err
	}
	defer s.close()
	return s.find(rest)
}

// places returns where a path is in each of the guest's own layers, topmost
// first; parents that are not there are left out. The caller closes them.
func (o *own) places(p string) ([]place, error) {
	var list []place
	open := func(f *os.File, name string) error {
		dir, err := openBelow(f, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if missing(err) || errors.Is(err, unix.ELOOP) {
			return nil
		}
		if err == nil {
			list = append(list, place{dir, path.Base(name)})
		}
		return wrap(err, "cannot open the guest's own %s", path.Dir(p))
	}
	top, rest, deeper := strings.Cut(p[1:], "/")
	if o.upper != nil && deeper {
		if err := open(o.upper, upperName(top)+"/"+rest); err != nil {
			return nil, err
		}
	}
	return list, open(o.root, p[1:])
}

func closePlaces(list []place) {
	for _, at := range list {
		at.dir.Close() // only a reference
	}
}
