package share

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// decideFile plans anything but a directory. All entries are the same thing;
// the first carries the operation, all of them own the path.
func (p *planner) decideFile(guestPath string, entries []entry, below bool) error {
	first := entries[0]
	want, err := first.attributes(guestPath)
	if err != nil {
		return err
	}
	have := disk{}
	if !below {
		if it, kept := p.keeper(guestPath); kept {
			return p.joinKeeper(guestPath, it, entries, want)
		}
		if have, err = p.look(guestPath); err != nil {
			return fmt.Errorf("cannot look at %s: %w", guestPath, err)
		}
	}
	leaving := p.leaving(guestPath)
	for _, it := range leaving {
		p.take(it, first.tree.by())
	}
	if p.keepPrivate(entries, want, leaving) {
		return nil
	}
	leaving = p.notOwn(leaving)
	own, ok, err := p.emitFile(guestPath, first, want, have, leaving)
	if err != nil {
		return err
	}
	if !ok {
		p.conflict(guestPath, first, theGuest)
		return nil
	}
	for _, e := range entries {
		p.record(e, want, own)
	}
	return nil
}

// record notes that the package of e has the path.
func (p *planner) record(e entry, want File, own bool) {
	placed := p.placedOf(e.tree)
	switch {
	case e.kind == repo.Symlink && e.private == nil:
		placed.Links = append(placed.Links, Link{Path: want.Path, Target: want.Link, Own: own})
	case e.isShared():
		p.how.record(placed, e, want, own)
	default:
		want.Own = own
		placed.Files = append(placed.Files, want)
	}
}

// joinKeeper plans a path that an installed package has and keeps.
func (p *planner) joinKeeper(guestPath string, it item, entries []entry, want File) error {
	same, own, err := p.sameAsKept(it, entries[0], want)
	if err != nil {
		return err
	}
	if !same {
		p.conflict(guestPath, entries[0], p.nameOf(it.pkg))
		return nil
	}
	for _, old := range p.leaving(guestPath) {
		p.take(old, entries[0].tree.by())
		if old.kind == linkItem && p.link(old).Source != "" {
			p.emit(entries[0].tree.by(), p.dropLink(old)) // it may lead to the layer that goes
		}
	}
	for _, e := range entries {
		p.record(e, want, own)
	}
	return nil
}

func (p *planner) sameAsKept(it item, e entry, want File) (same, own bool, err error) {
	switch it.kind {
	case mountItem:
		if !e.isShared() || !p.how.mounts() {
			return false, false, nil
		}
		at, err := p.dirs.at(want.Path)
		if err != nil {
			return false, false, err
		}
		have, err := at.stat()
		if err != nil {
			return false, false, err
		}
		st, err := e.tree.at(e.path).stat()
		return have.same(st), p.mount(it).Own, err
	case linkItem:
		if l := p.link(it); l.Source != "" {
			same, err := p.sameAsLinked(l, e)
			return same, false, err
		}
		return e.kind == repo.Symlink && p.link(it).Target == want.Link, p.link(it).Own, nil
	case fileItem:
		f := p.file(it)
		return f.Type == want.Type && f.Digest == want.Digest && f.Link == want.Link && f.Mode == want.Mode &&
			f.User == want.User && f.Group == want.Group && f.Size == want.Size && !f.Digest.IsZero(), f.Own, nil
	}
	return false, false, nil
}

// emitFile plans what it takes to have the file at its path. own says that
// the guest has the same already; ok is false for a conflict with the guest.
func (p *planner) emitFile(guestPath string, e entry, want File, have disk, leaving []item) (own, ok bool, err error) {
	have, was, err := p.uncover(guestPath, e, have, leaving)
	if err != nil {
		return false, false, err
	}
	if kept, err := p.keepOwn(guestPath, e, leaving); err != nil || kept {
		return kept, true, err
	}
	switch {
	case was != nil && was.own:
		own = true
	case was != nil:
	case have.there && len(leaving) == 0 && (e.private == nil || !e.private.Has(repo.Config)):
		same, err := p.identical(e, want, have)
		if err != nil || !same {
			return false, false, err
		}
		if !e.isShared() || !p.how.mounts() {
			return true, true, nil
		}
		own = true
	case have.isDir() && have.there:
		return false, false, nil
	}
	if e.isShared() {
		return own, true, p.how.share(p, spot{guestPath, e, want, have, own, was, leaving})
	}
	return false, true, p.emitPut(guestPath, e, want, have, leaving)
}

// covered is a mount that a new one replaces.
type covered struct {
	Origin
	own bool
}

// uncover deals with a mount of a package that goes: a shared file replaces
// it in place, for anything else it is taken away first. It returns what lies
// there then.
func (p *planner) uncover(guestPath string, e entry, have disk, leaving []item) (disk, *covered, error) {
	for _, it := range leaving {
		if it.kind != mountItem {
			continue
		}
		m := p.mount(it)
		if e.isShared() && p.how.mounts() && !m.Dir {
			return have, &covered{Origin{p.installed[it.pkg].ID, m.Source}, m.Own}, nil
		}
		p.emit(e.tree.by(), p.unmountOp(it, true))
		if !m.Own {
			return disk{}, nil, nil
		}
	}
	return have, nil, nil
}

// identical reports whether the guest's own file is what the package wants
// there, so that nothing is lost if the package's takes its place.
func (p *planner) identical(e entry, want File, have disk) (bool, error) {
	switch want.Type {
	case repo.Symlink:
		return have.isLink() && have.link == want.Link, nil
	case repo.Fifo:
		return have.kind() == unix.S_IFIFO, nil
	case repo.Char, repo.Block:
		kind := uint16(unix.S_IFCHR)
		if want.Type == repo.Block {
			kind = unix.S_IFBLK
		}
		return have.kind() == kind && unix.Mkdev(have.Rdev_major, have.Rdev_minor) == uint64(want.Rdev), nil
	}
	if !have.isRegular() || int64(have.Size) != want.Size {
		return false, nil
	}
	a, err := have.open()
	if err != nil {
		return false, err
	}
	defer a.Close()
	l := e.tree.at(e.path)
	b, err := openBelow(l.view, l.relative(), unix.O_RDONLY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, fmt.Errorf("cannot read %s in the layer of %s: %w", e.path, e.tree.name, err)
	}
	defer b.Close()
	return sameContent(a, b)
}

func sameContent(a, b *os.File) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		endA := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
		endB := errors.Is(errB, io.EOF) || errors.Is(errB, io.ErrUnexpectedEOF)
		switch {
		case endA && endB:
			return true, nil
		case endA != endB:
			return false, nil
		case errA != nil || errB != nil:
			return false, errors.Join(errA, errB)
		}
	}
}
