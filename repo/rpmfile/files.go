package rpmfile

import (
	"sort"
	"unicode/utf8"

	"stork/repo"
)

// dropped marks the root directory, which every guest has: packages such as
// "filesystem" list it, and it has no name to be placed under.
const dropped = -1

// files is what the header says of the package's files, in the order of the
// sorted file list.
type files struct {
	list     []repo.File
	digests  [][]byte // as the header has them; nil: none
	algo     algorithm
	content  []int // of each file: where the content is, itself or the first of its hard links
	last     []int // of each first hard link: the link that is last in the header's order
	links    []int // of each first hard link: how many there are
	position []int // of each file of the header: its place in the list, or dropped
	byPath   map[string]int
}

// fileColumns are the header's tags for files, side by side.
type fileColumns struct {
	paths, digests, targets, users, groups, caps []string
	sizes, modes, rdevs, mtimes, flags           []int64
	devices, inodes                              []int64
}

// readFiles makes the file list of a header.
func readFiles(h *header) (*files, error) {
	paths := filePaths(h)
	if h.err != nil {
		return nil, h.err
	}
	if len(paths) > repo.MaxFiles {
		return nil, unsupported("it has over %d files", repo.MaxFiles)
	}
	c := readColumns(h, paths)
	algo := algorithm(h.int(tagFileDigestAlgo))
	if algo == 0 {
		algo = algoMD5
	}
	if h.err != nil {
		return nil, h.err
	}
	return c.build(algo)
}

// filePaths joins directory and base names.
func filePaths(h *header) []string {
	if old := h.names(tagOldFileNames); old != nil {
		return old
	}
	bases, dirs := h.names(tagBaseNames), h.names(tagDirNames)
	indexes := column(h, tagDirIndexes, h.ints(tagDirIndexes), len(bases), false)
	if h.err != nil {
		return nil
	}
	paths := make([]string, len(bases))
	for i, base := range bases {
		if indexes[i] >= int64(len(dirs)) {
			h.fail(malformed("file %q lies in no directory", base))
			return nil
		}
		paths[i] = dirs[indexes[i]] + base
	}
	return paths
}

func readColumns(h *header, paths []string) *fileColumns {
	n := len(paths)
	sizeTag := tagFileSizes
	if h.has(tagLongFileSizes) {
		sizeTag = tagLongFileSizes
	}
	return &fileColumns{
		paths:   paths,
		digests: column(h, tagFileDigests, h.strings(tagFileDigests), n, true),
		targets: column(h, tagFileLinkTos, h.names(tagFileLinkTos), n, true),
		users:   column(h, tagFileUser, h.names(tagFileUser), n, true),
		groups:  column(h, tagFileGroup, h.names(tagFileGroup), n, true),
		caps:    column(h, tagFileCaps, h.strings(tagFileCaps), n, true),
		sizes:   column(h, sizeTag, h.ints(sizeTag), n, false),
		modes:   column(h, tagFileModes, h.ints(tagFileModes), n, false),
		rdevs:   column(h, tagFileRdevs, h.ints(tagFileRdevs), n, true),
		mtimes:  column(h, tagFileMtimes, h.ints(tagFileMtimes), n, true),
		flags:   column(h, tagFileFlags, h.ints(tagFileFlags), n, true),
		devices: column(h, tagFileDevices, h.ints(tagFileDevices), n, true),
		inodes:  column(h, tagFileInodes, h.ints(tagFileInodes), n, true),
	}
}

func (c *fileColumns) build(algo algorithm) (*files, error) {
	order := make([]int, 0, len(c.paths)) // header places in the order of the list
	f := &files{algo: algo, position: make([]int, len(c.paths)), byPath: make(map[string]int, len(c.paths))}
	for i, path := range c.paths {
		if f.position[i] = dropped; path != "/" {
			order = append(order, i)
		}
	}
	sort.Slice(order, func(i, j int) bool { return c.paths[order[i]] < c.paths[order[j]] })
	for place, i := range order {
		file, err := c.file(i)
		if err != nil {
			return nil, err
		}
		digest, err := c.digest(i, file, algo)
		if err != nil {
			return nil, err
		}
		if _, twice := f.byPath[file.Path]; twice {
			return nil, malformed("file %q stands twice", file.Path)
		}
		f.list = append(f.list, *file)
		f.digests = append(f.digests, digest)
		f.position[i] = place
		f.byPath[file.Path] = place
	}
	return f, f.joinLinks(c, order)
}

// Types of files in a mode (inode(7)).
const (
	modeType   = 0o170000
	modeFifo   = 0o010000
	modeChar   = 0o020000
	modeDir    = 0o040000
	modeBlock  = 0o060000
	modeFile   = 0o100000
	modeSymbol = 0o120000
)

func typeOf(mode int64) (repo.FileType, error) {
	switch mode & modeType {
	case modeFile:
		return repo.Regular, nil
	case modeDir:
		return repo.Dir, nil
	case modeSymbol:
		return repo.Symlink, nil
	case modeFifo:
		return repo.Fifo, nil
	case modeChar:
		return repo.Char, nil
	case modeBlock:
		return repo.Block, nil
	}
	return "", unsupported("a file has mode %o", mode)
}

// file makes the list's entry for row i, without digest and links. A ghost is
// not in the package, so the size that the builder saw says nothing.
func (c *fileColumns) file(i int) (*repo.File, error) {
	path := c.paths[i]
	if err := repo.CheckPath(path); err != nil {
		return nil, malformed("%w", err)
	}
	kind, err := typeOf(c.modes[i])
	if err != nil {
		return nil, err
	}
	f := &repo.File{
		Flags: fileFlags(c.flags[i]), Group: owner(c.groups[i]), Mode: uint32(c.modes[i] & 0o7777),
		ModTime: c.mtimes[i], Path: path, Type: kind, User: owner(c.users[i]),
	}
	if !validOwner(f.User) || !validOwner(f.Group) {
		return nil, malformed("file %q belongs to %q, group %q", path, f.User, f.Group)
	}
	switch kind {
	case repo.Symlink:
		f.Link = c.targets[i]
	case repo.Char, repo.Block:
		f.Rdev = uint32(c.rdevs[i])
	case repo.Regular:
		if f.Has(repo.Ghost) {
			break
		}
		f.Size = c.sizes[i]
		value, err := capabilityXattr(c.caps[i])
		if err != nil {
			return nil, err
		}
		if value != nil {
			f.Xattrs = map[string][]byte{repo.CapabilityXattr: value}
		}
	}
	return f, nil
}

// digest returns what the header says of the content of row i.
func (c *fileColumns) digest(i int, f *repo.File, algo algorithm) ([]byte, error) {
	if f.Type != repo.Regular || f.Has(repo.Ghost) {
		return nil, nil
	}
	return algo.parseDigest(c.digests[i])
}

// owner leaves out root, as file lists do.
func owner(name string) string {
	if name == "root" {
		return ""
	}
	return name
}

// validOwner keeps what could be mistaken in /etc/passwd and on terminals out
// of names.
func validOwner(name string) bool {
	for _, r := range name {
		if r <= ' ' || r == ':' || r == '/' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return len(name) <= 255
}

// flagBits are the bits of file flags (rpm's include/rpm/rpmfiles.h) that
// matter after building, in the order of their names.
var flagBits = []struct {
	bit  int64
	flag repo.FileFlag
}{
	{1 << 12, repo.Artifact}, {1 << 0, repo.Config}, {1 << 1, repo.Doc}, {1 << 6, repo.Ghost},
	{1 << 7, repo.LicenseOf}, {1 << 3, repo.MissingOK}, {1 << 4, repo.NoReplace}, {1 << 8, repo.Readme},
}

func fileFlags(bits int64) []repo.FileFlag {
	var flags []repo.FileFlag
	for _, known := range flagBits {
		if bits&known.bit != 0 {
			flags = append(flags, known.flag)
		}
	}
	return flags
}

// joinLinks finds hard links: regular files with the same device and inode
// number in the header, as rpmfilesBuildNLink finds them.
func (f *files) joinLinks(c *fileColumns, order []int) error {
	type inode struct{ device, number int64 }
	first := make(map[inode]int)
	n := len(f.list)
	f.content, f.links, f.last = make([]int, n), make([]int, n), make([]int, n)
	for place, row := range order {
		file := &f.list[place]
		f.content[place], f.links[place], f.last[place] = place, 1, place
		id := inode{c.devices[row], c.inodes[row]}
		if file.Type != repo.Regular || file.Has(repo.Ghost) || id.number <= 0 {
			continue
		}
		head, known := first[id]
		if !known {
			first[id] = place
			continue
		}
		if err := f.link(head, place); err != nil {
			return err
		}
		f.links[head]++
		if row > order[f.last[head]] {
			f.last[head] = place
		}
	}
	return nil
}

// link makes the file at place a hard link of the one at head, with which it
// must agree in everything that an inode has.
func (f *files) link(head, place int) error {
	a, b := &f.list[head], &f.list[place]
	if a.Size != b.Size || a.Mode != b.Mode || a.User != b.User || a.Group != b.Group || a.ModTime != b.ModTime ||
		string(f.digests[head]) != string(f.digests[place]) ||
		string(a.Xattrs[repo.CapabilityXattr]) != string(b.Xattrs[repo.CapabilityXattr]) {
		return malformed("%q and %q are one file by inode and two by what is said of them", a.Path, b.Path)
	}
	b.LinkTo = a.Path
	f.content[place] = head
	return nil
}

// installedSize returns the bytes of all regular files, each hard link once.
func (f *files) installedSize() int64 {
	total := int64(0)
	for i := range f.list {
		if f.content[i] == i {
			total += f.list[i].Size
		}
	}
	return total
}
