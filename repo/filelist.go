package repo

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"unicode/utf8"
)

// FileListFormat is the version of the file list that this code writes and
// reads.
const FileListFormat = 1

// MaxFileList is the size in bytes that no file list's canonical form exceeds.
const MaxFileList = 256 << 20

// MaxFiles is how many entries a file list may have; the largest real ones have
// a few hundred thousand.
const MaxFiles = 1_000_000

// MaxImplied is how many directories a file list may imply: those that lie
// above its paths and that it does not name. A path of 4 KB has two thousand
// parents, so it takes few paths to ask for more directories than a disk has
// room for.
const MaxImplied = 1 << 17

// FileList is every path that a package carries, sorted by path in byte
// order. It is a document of its own because only the nest needs all of it.
type FileList struct {
	Files  []File `json:"files"`
	Format int    `json:"format"`
}

// FileType is the type of an entry.
type FileType string

// The types of entries.
const (
	Regular FileType = "file"
	Dir     FileType = "dir"
	Symlink FileType = "symlink"
	Fifo    FileType = "fifo"
	Char    FileType = "char"
	Block   FileType = "block"
)

// File is one path in a package. Modes are permission bits only (07777).
type File struct {
	Digest  Digest            `json:"digest,omitzero"`  // regular files: SHA-256 of the content
	Flags   []FileFlag        `json:"flags,omitempty"`  // sorted
	Group   string            `json:"group,omitempty"`  // empty: root
	Link    string            `json:"link,omitempty"`   // symlinks: the target as packaged
	LinkTo  string            `json:"linkto,omitempty"` // hard links: the path of the first name of the same inode
	Mode    uint32            `json:"mode"`
	ModTime int64             `json:"mtime"` // seconds since the epoch
	Path    string            `json:"path"`  // absolute and clean
	Rdev    uint32            `json:"rdev,omitempty"`
	Size    int64             `json:"size,omitempty"` // regular files: bytes
	Type    FileType          `json:"type"`
	User    string            `json:"user,omitempty"` // empty: root
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
}

// FileFlag is what the package says of a file beyond its content.
type FileFlag string

// The flags, under RPM's names.
const (
	Config    FileFlag = "config"
	Ghost     FileFlag = "ghost"
	MissingOK FileFlag = "missingok"
	NoReplace FileFlag = "noreplace"
	Doc       FileFlag = "doc"
	LicenseOf FileFlag = "license"
	Readme    FileFlag = "readme"
	Artifact  FileFlag = "artifact"
)

// CapabilityXattr is the only extended attribute a package may carry: file
// capabilities (capabilities(7)), as the kernel stores them.
const CapabilityXattr = "security.capability"

// Has reports whether the file carries flag.
func (f *File) Has(flag FileFlag) bool {
	for _, have := range f.Flags {
		if have == flag {
			return true
		}
	}
	return false
}

// RootOwned reports whether user and group are both root.
func (f *File) RootOwned() bool { return f.User == "" && f.Group == "" }

// Encode sorts the list and returns its canonical JSON and what names it.
func (l *FileList) Encode() ([]byte, FileListObject, error) {
	sort.Slice(l.Files, func(i, j int) bool { return l.Files[i].Path < l.Files[j].Path })
	b, err := EncodeCanonical(l)
	return b, FileListObject{Count: len(l.Files), Digest: DigestOf(b), Size: int64(len(b))}, err
}

// DecodeFileList reads a file list and checks it: sorted, unique and clean
// paths below no symlink or file of the same list, no more than [MaxImplied]
// directories above them, known types and flags.
func DecodeFileList(b []byte) (*FileList, error) {
	if len(b) > MaxFileList {
		return nil, fmt.Errorf("cannot decode file list: over %d bytes", MaxFileList)
	}
	if err := checkCount(b); err != nil {
		return nil, fmt.Errorf("cannot decode file list: %w", err)
	}
	l := new(FileList)
	if err := DecodeCanonical(b, l); err != nil {
		return nil, fmt.Errorf("cannot decode file list: %w", err)
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("cannot decode file list: %w", err)
	}
	return l, nil
}

// checkCount refuses text that is too much to parse. An entry of 3 bytes, "{},",
// takes 200 bytes of memory before anybody can say that it is none. There is a
// brace for each entry, one more for its attributes, and a comma for each
// field and flag; names may have some of their own.
func checkCount(b []byte) error {
	if tooMany(b, 2*MaxFiles+1, 16*MaxFiles) {
		return fmt.Errorf("over %d files", MaxFiles)
	}
	return nil
}

// tooMany reports whether JSON has more objects and elements than that. It
// counts those in strings too.
func tooMany(b []byte, objects, elements int) bool {
	return bytes.Count(b, []byte{'{'}) > objects || bytes.Count(b, []byte{','}) > elements
}

// Check holds the list to the rules that [DecodeFileList] names.
func (l *FileList) Check() error {
	if l.Format != FileListFormat {
		return fmt.Errorf("unknown format %d: this program reads %d", l.Format, FileListFormat)
	}
	if len(l.Files) > MaxFiles {
		return fmt.Errorf("over %d files", MaxFiles)
	}
	types := make(map[string]*File, len(l.Files))
	for i := range l.Files {
		f := &l.Files[i]
		if i > 0 && f.Path <= l.Files[i-1].Path {
			return fmt.Errorf("%q is out of order or twice", f.Path)
		}
		if err := f.check(); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
		types[f.Path] = f
	}
	implied := map[string]bool{}
	for i := range l.Files {
		f := &l.Files[i]
		err := checkParents(f.Path, types, implied)
		if err == nil {
			err = checkLink(f, types)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
	}
	return nil
}

// checkParents checks that everything above a path is a directory. It goes up
// to the first that is listed, which is checked itself, or was seen before.
func checkParents(p string, types map[string]*File, implied map[string]bool) error {
	for {
		p = p[:strings.LastIndexByte(p, '/')]
		if p == "" || implied[p] {
			return nil
		}
		if parent, ok := types[p]; ok {
			if parent.Type != Dir {
				return fmt.Errorf("lies below %q, which is no directory", p)
			}
			return nil
		}
		if len(implied) == MaxImplied {
			return fmt.Errorf("the list implies over %d directories that it does not name", MaxImplied)
		}
		implied[p] = true
	}
}

// checkLink checks that a hard link's first name is the same file.
func checkLink(f *File, types map[string]*File) error {
	if f.LinkTo == "" {
		return nil
	}
	first, ok := types[f.LinkTo]
	if !ok || f.LinkTo >= f.Path || first.LinkTo != "" || first.Type != Regular ||
		first.Digest != f.Digest || first.Size != f.Size || first.Mode != f.Mode ||
		first.User != f.User || first.Group != f.Group || first.ModTime != f.ModTime {
		return fmt.Errorf("is no hard link of %q", f.LinkTo)
	}
	return nil
}

func (f *File) check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if f.Mode&^0o7777 != 0 || f.Size < 0 {
		return errors.New("mode or size is out of range")
	}
	for i, flag := range f.Flags {
		if !knownFlags[flag] || i > 0 && flag <= f.Flags[i-1] {
			return fmt.Errorf("flag %q is unknown, twice or out of order", flag)
		}
	}
	for name := range f.Xattrs {
		if name != CapabilityXattr || f.Type != Regular {
			return fmt.Errorf("extended attribute %q is not allowed", name)
		}
	}
	return f.checkType()
}

func (f *File) checkType() error {
	if f.Type != Regular && (f.Size != 0 || !f.Digest.IsZero() || f.LinkTo != "") {
		return errors.New("only a regular file has a size, a digest and hard links")
	}
	if f.Type != Symlink && f.Link != "" {
		return errors.New("only a symlink has a target")
	}
	switch f.Type {
	case Regular:
		if f.Digest.IsZero() && !f.Has(Ghost) {
			return errors.New("has no digest")
		}
	case Symlink:
		if f.Link == "" && !f.Has(Ghost) || len(f.Link) > 4095 || strings.ContainsRune(f.Link, 0) {
			return errors.New("has no usable target")
		}
	case Dir, Fifo, Char, Block:
	default:
		return fmt.Errorf("unknown type %q", f.Type)
	}
	return nil
}

var knownFlags = map[FileFlag]bool{
	Config: true, Ghost: true, MissingOK: true, NoReplace: true,
	Doc: true, LicenseOf: true, Readme: true, Artifact: true,
}

// CheckPath reports whether p is an absolute, clean path that names something
// below the root: no "." or ".." elements, no empty ones, no NUL, valid
// UTF-8, elements of at most 255 bytes.
func CheckPath(p string) error {
	if len(p) < 2 || len(p) > 4095 || p[0] != '/' || path.Clean(p) != p || !utf8.ValidString(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("path %q is not absolute and clean", p)
	}
	for element := range strings.SplitSeq(p[1:], "/") {
		if len(element) > 255 {
			return fmt.Errorf("path %q has an element of over 255 bytes", p)
		}
	}
	return nil
}

// IsPrimaryPath reports whether p is listed in the index so that packages can
// require it by path: the directories for commands, /etc, and
// /usr/lib/sendmail, as createrepo_c chooses them. Every other path is in the
// file list only.
func IsPrimaryPath(p string) bool {
	return strings.HasPrefix(p, "/etc/") || strings.Contains(p, "bin/") || p == "/usr/lib/sendmail"
}
