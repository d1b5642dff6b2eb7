package share

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"stork/repo"
)

// fate is what happens to a file that the guest has at a path where a package
// puts one (rpmfilesDecideFate and rpmfilesConfigConflict in rpm's
// lib/rpmfi.c).
type fate string

const (
	create fate = "create" // the packaged file takes the place
	skip   fate = "skip"   // the guest's stays
	asNew  fate = ".rpmnew"
	asSave fate = ".rpmsave" // the guest's is kept aside
	asOrig fate = ".rpmorig"
)

// decideFate applies rpm's rules. old is what the package that goes had put
// there, nil if there was none; content is the digest of what is there now,
// zero if that is no regular file.
func decideFate(old *File, want *File, have disk, content repo.Digest) fate {
	config := want.Has(repo.Config) || old != nil && old.Has(repo.Config)
	switch {
	case !have.there:
		if old != nil && config && want.Has(repo.MissingOK) {
			return skip
		}
		return create
	case !config || unmodified(want, have, content):
		return create
	case old == nil && want.Has(repo.NoReplace):
		return asNew
	case old == nil:
		return asOrig
	case unmodified(old, have, content):
		return create
	case want.Has(repo.Config) && old.Type == want.Type && old.Digest == want.Digest && old.Link == want.Link:
		return skip // the package has no news
	case old.Type != repo.Regular && old.Type != repo.Symlink:
		return create
	case want.Has(repo.NoReplace):
		return asNew
	}
	return asSave
}

// unmodified reports whether the guest has at the path what was packaged.
func unmodified(packaged *File, have disk, content repo.Digest) bool {
	switch packaged.Type {
	case repo.Regular:
		return have.isRegular() && !content.IsZero() && content == packaged.Digest
	case repo.Symlink:
		return have.isLink() && have.link == packaged.Link
	}
	return false
}

// content returns the digest of a regular file of the guest.
func (d disk) content() (repo.Digest, error) {
	if !d.there || !d.isRegular() {
		return repo.Digest{}, nil
	}
	f, err := d.open()
	if err != nil {
		return repo.Digest{}, err
	}
	return digestOf(f)
}

// digestOf reads a file to its end and closes it.
func digestOf(f *os.File) (repo.Digest, error) {
	h := sha256.New()
	_, err := io.Copy(h, f)
	return repo.Digest(h.Sum(nil)), errors.Join(err, f.Close())
}

// emitPut plans a file of the guest's own.
func (p *planner) emitPut(guestPath string, e entry, want File, have disk, leaving []item) error {
	content, err := have.content()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", guestPath, err)
	}
	fresh := !have.there
	switch f := decideFate(p.oldFile(leaving), &want, have, content); f {
	case skip:
		return nil
	case asNew:
		beside := guestPath + string(f)
		there, err := p.look(beside)
		if err != nil {
			return err
		}
		if there.isDir() && there.there {
			p.conflict(beside, e, theGuest)
			return nil
		}
		p.note(e, "%s was changed in the guest: the packaged one is at %s", guestPath, beside)
		guestPath, fresh = beside, !there.there
	case asSave, asOrig:
		if err := p.keepAside(e.tree.by(), guestPath, guestPath+string(f)); err != nil {
			return err
		}
		p.note(e, "%s was changed in the guest: its own is at %s", guestPath, guestPath+string(f))
	}
	op := Op{Kind: OpPut, Path: guestPath, Layer: e.tree.id, Source: e.path, Fresh: fresh, File: &want}
	if want.Type != repo.Regular {
		op.Layer, op.Source = repo.Digest{}, ""
	}
	p.attributes(&op, e, guestPath)
	p.emit(e.tree.by(), op)
	return nil
}

// attributes adds what is not recorded: time, capabilities, hard links.
func (p *planner) attributes(op *Op, e entry, guestPath string) {
	if e.private != nil {
		op.Time, op.Xattrs = e.private.ModTime, e.private.Xattrs
		return
	}
	st, err := e.tree.at(e.path).stat()
	if err != nil {
		return // the copy itself will say so
	}
	op.Time = st.Mtime.Sec
	if e.kind != repo.Regular || st.Nlink < 2 || e.tree.links == nil {
		return
	}
	if first := e.tree.links[st.Ino]; first != "" {
		op.From = first
	} else {
		e.tree.links[st.Ino] = guestPath
	}
}

// oldFile returns what a package that goes had at the path.
func (p *planner) oldFile(leaving []item) *File {
	for _, it := range leaving {
		switch it.kind {
		case fileItem:
			return p.file(it)
		case linkItem:
			l := p.link(it)
			return &File{Path: l.Path, Type: repo.Symlink, Link: l.Target}
		}
	}
	return nil
}

// emitSave keeps aside a configuration file that was changed and that a
// shared file now replaces.
func (p *planner) emitSave(guestPath string, e entry, have disk, leaving []item) error {
	old := p.oldFile(leaving)
	edited := p.change.Convert && old != nil && old.Type == repo.Regular // a copy, perhaps
	if old == nil || !old.Has(repo.Config) && !edited {
		return nil
	}
	content, err := have.content()
	if err != nil || unmodified(old, have, content) {
		return err
	}
	if packaged, err := e.digest(); err != nil || packaged == content {
		return err
	}
	p.note(e, "%s was changed in the guest: its own is at %s", guestPath, guestPath+string(asSave))
	return p.keepAside(e.tree.by(), guestPath, guestPath+string(asSave))
}

// keepAside plans a second name for what guestPath is before the plan.
func (p *planner) keepAside(element int, guestPath, aside string) error {
	there, err := p.look(aside)
	if err != nil {
		return err
	}
	if there.there && there.isDir() {
		return fmt.Errorf("cannot keep %s aside: %s is a directory", guestPath, aside)
	}
	p.emit(element, Op{Kind: OpPut, Path: aside, From: guestPath, Old: true, Fresh: !there.there})
	return nil
}

func (p *planner) note(e entry, format string, args ...any) {
	el := &p.plan.Elements[e.tree.by()]
	if text := fmt.Sprintf(format, args...); !slices.Contains(el.Notes, text) {
		el.Notes = append(el.Notes, text)
	}
}
