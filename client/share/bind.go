package share

import (
	"fmt"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// bindMethod mounts the layer's files and directories one by one.
type bindMethod struct{ plain }

// accept refuses a layer that the guest could write to.
func (bindMethod) accept(_ *Root, t *tree) error { return t.readOnly() }

func (t *tree) readOnly() error {
	if t.view == nil {
		return fmt.Errorf("cannot share the layer of %s: it is not attached", t.name)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(t.view.Fd()), &fs); err != nil {
		return fmt.Errorf("cannot look at the layer of %s: %w", t.name, err)
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return fmt.Errorf("cannot share the layer of %s: %s can be written to", t.name, t.view.Name())
	}
	return nil
}

func (bindMethod) folds() (itemKind, bool) { return mountItem, true }

// fold makes a whole directory one mount. The directory below it is made with
// the same mode, in case it is unfolded later.
func (bindMethod) fold(p *planner, guestPath string, e entry, was *Origin) {
	file := &File{Path: guestPath, Type: repo.Dir, Mode: 0o755}
	if st, err := e.tree.at(e.path).stat(); err == nil {
		file.Mode = st.permissions()
	}
	op := Op{Kind: OpMount, Path: guestPath, Layer: e.tree.id, Source: e.path, Dir: true, Fresh: was == nil, Was: was, File: file}
	p.emit(e.tree.by(), op)
	placed := p.placedOf(e.tree)
	placed.Mounts = append(placed.Mounts, Mount{Target: guestPath, Source: e.path, Dir: true})
}

func (bindMethod) mounts() bool { return true }

func (bindMethod) share(p *planner, s spot) error {
	op := Op{Kind: OpMount, Path: s.path, Layer: s.entry.tree.id, Source: s.entry.path, Fresh: !s.own && s.was == nil}
	if s.was != nil {
		op.Was = &s.was.Origin
	} else if s.have.there && len(s.leaving) > 0 {
		// A file or symlink of a package that goes lies there.
		if err := p.emitSave(s.path, s.entry, s.have, s.leaving); err != nil {
			return err
		}
		p.emit(s.entry.tree.by(), Op{Kind: OpTake, Path: s.path})
	}
	p.emit(s.entry.tree.by(), op)
	return nil
}

func (bindMethod) record(placed *Placed, e entry, want File, own bool) {
	placed.Mounts = append(placed.Mounts, Mount{Target: want.Path, Source: e.path, Own: own})
}
