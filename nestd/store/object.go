package store

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"stork/repo"
)

// FixedTime is the modification time, in seconds since the epoch, of
// everything in the store but the sources that [keepsTime] names: a file that
// did not change between two releases is then one object. It is 1 and not 0,
// for some programs take 0 for "unknown".
const FixedTime = 1

// PrivateMode is the mode of objects that guests copy and never mount, and
// PrivateDirMode that of directories which a guest makes for itself.
const (
	PrivateMode    = 0o600
	PrivateDirMode = 0o700
)

// attributes are what the links of an inode share, beside the content. The
// owner is always root: what is not root's is private to each guest.
type attributes struct {
	mode    uint32 // permission bits, 07777
	mtime   int64
	xattrs  map[string][]byte
	content repo.Digest
	size    int64
}

// identity returns the name of the object: the SHA-256 of
//
//	stork object 1
//	content sha256:…
//	mode 0755
//	uid 0
//	gid 0
//	mtime 1
//	xattr <name> <value in hexadecimal>      for each, sorted by name
//
// each line ended by a newline. The first line numbers the format. Everything
// in it can be read from the inode, so an object is checked against its own
// name.
func (a *attributes) identity() repo.Digest {
	var b strings.Builder
	fmt.Fprintf(&b, "stork object 1\ncontent %s\nmode %04o\nuid 0\ngid 0\nmtime %d\n", a.content, a.mode, a.mtime)
	for _, name := range slices.Sorted(maps.Keys(a.xattrs)) {
		fmt.Fprintf(&b, "xattr %s %s\n", name, hex.EncodeToString(a.xattrs[name]))
	}
	return repo.DigestOf([]byte(b.String()))
}

// attributesOf returns what the object of a regular file of the list has.
func attributesOf(f *repo.File, private, keepTime bool) attributes {
	a := attributes{mode: f.Mode, mtime: FixedTime, xattrs: f.Xattrs, content: f.Digest, size: f.Size}
	if private {
		a.mode, a.xattrs = PrivateMode, nil
		return a
	}
	if keepTime {
		a.mtime = f.ModTime
	}
	return a
}

// sources returns the paths whose modification time is kept: Python sources
// that the list has byte-code for. The byte-code records the source's time
// (PEP 552), and with another one every start of a program in every guest
// would compile the source again.
func sources(list *repo.FileList) map[string]bool {
	kept := map[string]bool{}
	for i := range list.Files {
		if source, ok := sourceOf(list.Files[i].Path); ok {
			kept[source] = true
		}
	}
	return kept
}

// sourceOf returns the source that byte-code at p was compiled from: for
// /d/__pycache__/m.cpython-311.opt-1.pyc (PEP 3147, PEP 488) it is /d/m.py,
// for /d/m.pyc, /d/m.py.
func sourceOf(p string) (string, bool) {
	dir, name := path.Split(p)
	stem, ok := strings.CutSuffix(name, ".pyc")
	if !ok {
		if stem, ok = strings.CutSuffix(name, ".pyo"); !ok {
			return "", false
		}
	}
	parent, cached := strings.CutSuffix(dir, "/__pycache__/")
	if !cached {
		return dir + stem + ".py", true
	}
	if i := strings.LastIndex(stem, ".opt-"); i >= 0 {
		stem = stem[:i]
	}
	tag := strings.LastIndexByte(stem, '.')
	if tag <= 0 {
		return "", false
	}
	return parent + "/" + stem[:tag] + ".py", true
}
