package share

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// DefaultMounts is how many mounts a guest has for its packages at most,
// unless its owner says otherwise: every reader of mountinfo, systemd above
// all, suffers with thousands.
const DefaultMounts = 500

// Means is what a guest can do. See [Probe].
type Means struct {
	Shared  bool   // layers can be seen in the guest: there is a view
	Mount   bool   // it can mount in its own namespace
	Overlay bool   // it can mount overlays on its own directories
	Placed  bool   // its mounts are made by the nest
	Upper   bool   // for that it needs a directory from the nest: its root is an overlay
	Why     string // what is in the way of overlays, for people
}

// Probe finds out what a guest can do by doing it, in a mount that is
// attached nowhere: nothing is left behind. view is where layers are, empty
// if there is no nest; installed is what has been placed.
func Probe(root *Root, view string, installed []Placed) (Means, error) {
	m := Means{Shared: view != ""}
	clone, err := cloneTree(root.dir, "", 0)
	locked := errors.Is(err, unix.EINVAL)
	if locked { // see openLocked
		clone, err = cloneTree(root.dir, "", unix.AT_RECURSIVE)
	}
	switch {
	case root.mounter != nil && root.places:
		m.Mount, m.Placed = true, true
		m.Why = "the guest may not mount, and what the nest mounts for it is no overlay"
		if err == nil {
			err = clone.Close()
		} else if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			err = nil
		}
		return m, err
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		m.Why = "the guest may not mount anything"
		return m, nil
	case err != nil:
		return Means{}, fmt.Errorf("cannot find out whether the guest can mount: %w", err)
	}
	defer clone.Close()
	m.Mount = true
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		m.Why = fmt.Sprintf("the guest can not mount overlays: %v", err)
		return m, nil
	}
	old := unix.FsconfigSetString(fs, "lowerdir+", "/") != nil || !movesBeneath()
	unix.Close(fs)
	if old {
		m.Why = "the guest's kernel is too old for overlays that can be exchanged: Linux 6.7 is needed"
		return m, nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(clone.Fd()), &st); err != nil {
		return Means{}, fmt.Errorf("cannot look at the guest's root: %w", err)
	}
	m.Upper = st.Type == unix.OVERLAYFS_SUPER_MAGIC
	if st.Flags&unix.ST_RDONLY != 0 {
		m.Why = "its root directory is read-only"
		return m, nil
	}
	if m.Upper && fromHost(view) {
		m.Why = "its root is an overlay, and the host of a virtual machine gives it no directory that it may write to"
		return m, nil
	}
	if m.Why, err = root.separateTops(clone, locked, installed); err != nil {
		return Means{}, err
	}
	m.Overlay = m.Why == ""
	return m, nil
}

// fromHost says whether the view is on virtiofs.
func fromHost(view string) bool {
	var st unix.Statfs_t
	return view != "" && unix.Statfs(view, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// movesBeneath says whether the kernel can put a mount below another one
// (MOVE_MOUNT_BENEATH, Linux 6.5). It looks at flags before it looks at what
// is to be moved.
func movesBeneath() bool {
	err := unix.MoveMount(-1, "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|moveMountBeneath)
	return !errors.Is(err, unix.EINVAL)
}

// separateTops says which of the directories that packages use is a file
// system of its own, so that it can not be an overlay's upper directory. In a
// clone with all mounts they look as they are. Stork's own mounts, of an
// environment or of a package, go when overlays come.
func (r *Root) separateTops(clone *os.File, all bool, installed []Placed) (string, error) {
	for _, name := range []string{"usr", "etc", "opt"} {
		f, err := r.plain("/"+name, unix.O_PATH|unix.O_DIRECTORY)
		if missing(err) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot open the guest's /%s: %w", name, err)
		}
		live, err := statAt(int(f.Fd()), "")
		f.Close() // only a reference
		if err != nil {
			return "", err
		}
		raw, err := statAt(int(clone.Fd()), name)
		if err != nil && !missing(err) {
			return "", err
		}
		if live.isMounted() && (all || err != nil || !raw.same(live)) {
			ours, err := r.oursOn("/"+name, installed)
			if err != nil || !ours {
				return fmt.Sprintf("/%s is a file system of its own", name), err
			}
		}
	}
	return "", nil
}

// oursOn reports whether what is mounted on dir is stork's.
func (r *Root) oursOn(dir string, installed []Placed) (bool, error) {
	f, err := r.plain(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	id, err := mountID(f)
	if err != nil {
		return false, err
	}
	table, err := r.mountTable()
	e := table[id]
	return e.isOurs() || slices.ContainsFunc(installed, func(p Placed) bool { return e.isOf(&p) }), err
}

// Choose picks the method for a guest that can do what means says, if its
// packages need that many mounts with [Bind] (see [Plan.Mounts]).
// budget is the number that they may have at most; 0 is [DefaultMounts].
//
// Bind is the simplest: what it shares can not be changed in the guest, and
// costs nothing that the guest does not see. Overlay has one mount for each
// top directory, whatever the number of packages.
func Choose(means Means, mounts, budget int) Method {
	if budget == 0 {
		budget = DefaultMounts
	}
	switch {
	case !means.Shared:
		return Copy
	case !means.Mount:
		return Symlink
	case mounts > budget && means.Overlay:
		return Overlay
	}
	return Bind
}

// Mounts returns how many mounts the guest has for its packages once the plan
// is carried out, if it is one for [Bind]; installed is as for [MakePlan].
func (p *Plan) Mounts(installed []Placed) int {
	left := map[string]bool{}
	gone := map[repo.Digest]bool{}
	drop := map[repo.Digest]map[string]bool{}
	for i := range p.Elements {
		e := &p.Elements[i]
		gone[e.ID] = true // or placed anew
		for _, m := range e.Placed.Mounts {
			left[m.Target] = true
		}
		for _, s := range e.Shifts {
			if drop[s.ID] == nil {
				drop[s.ID] = map[string]bool{}
			}
			for _, target := range s.Drop {
				drop[s.ID][target] = true
			}
			for _, m := range s.Gain.Mounts {
				left[m.Target] = true
			}
		}
	}
	for i := range installed {
		if gone[installed[i].ID] {
			continue
		}
		for _, m := range installed[i].Mounts {
			if !drop[installed[i].ID][m.Target] {
				left[m.Target] = true
			}
		}
	}
	return len(left)
}
