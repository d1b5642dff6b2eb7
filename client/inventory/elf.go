package inventory

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// library is what a shared library provides.
type library struct {
	stamp    stamp
	is64     bool
	machine  elf.Machine
	versions []string // symbol versions that it defines
}

// Bounds on what a library may make us read.
const (
	maxVersionTable = 1 << 20 // bytes of version definitions
	maxStringTable  = 64 << 20
	maxVersions     = 10_000
	maxSections     = 10_000
)

// readLibrary reads an ELF file. Whatever is not a library of a known class,
// or claims more than the bounds, is one that provides nothing.
func readLibrary(file io.ReaderAt) (lib library) {
	if !plausible(file) {
		return library{}
	}
	f, err := elf.NewFile(file)
	if err != nil || f.Type != elf.ET_DYN {
		return library{}
	}
	lib = library{is64: f.Class == elf.ELFCLASS64, machine: f.Machine}
	for _, section := range f.Sections {
		if section.Type != elf.SHT_GNU_VERDEF {
			continue
		}
		table := contentOf(section, maxVersionTable)
		if int(section.Link) < len(f.Sections) && table != nil {
			lib.versions = versionDefinitions(table, contentOf(f.Sections[section.Link], maxStringTable), f.ByteOrder)
		}
	}
	return lib
}

// plausible looks at the ELF header before debug/elf makes room for all the
// sections that it claims.
func plausible(file io.ReaderAt) bool {
	var h [64]byte
	n, err := file.ReadAt(h[:], 0)
	if n < 52 && err != nil || !bytes.HasPrefix(h[:], []byte(elf.ELFMAG)) {
		return false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(h[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	sections, offset := order.Uint16(h[48:]), uint64(order.Uint32(h[32:]))
	if elf.Class(h[elf.EI_CLASS]) == elf.ELFCLASS64 {
		if n < 64 {
			return false
		}
		sections, offset = order.Uint16(h[60:]), order.Uint64(h[40:])
	}
	// No sections but an offset stands for "more than 65 279".
	return sections <= maxSections && (sections > 0 || offset == 0)
}

// contentOf returns a section's bytes, nil if it is compressed or larger
// than max.
func contentOf(s *elf.Section, max uint64) []byte {
	if s.Flags&elf.SHF_COMPRESSED != 0 || s.Type == elf.SHT_NOBITS || s.FileSize > max {
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return nil
	}
	return b
}

// versionDefinitions walks an .gnu.version_d section ("Linux Standard Base
// Core", symbol versioning): definitions of 20 bytes, each with its name in
// the first of its auxiliary entries. The base definition names the file.
func versionDefinitions(table, names []byte, order binary.ByteOrder) []string {
	const size, base = 20, 1
	var out []string
	for at := uint64(0); at+size <= uint64(len(table)) && len(out) < maxVersions; {
		d := table[at:]
		flags, aux, next := order.Uint16(d[2:]), uint64(order.Uint32(d[12:])), uint64(order.Uint32(d[16:]))
		if flags&base == 0 && at+aux+4 <= uint64(len(table)) {
			if name := stringAt(names, order.Uint32(table[at+aux:])); name != "" {
				out = append(out, name)
			}
		}
		if next < size {
			break
		}
		at += next
	}
	return out
}

// maxVersionName bounds the length of a symbol version.
const maxVersionName = 255

func stringAt(table []byte, at uint32) string {
	if uint64(at) >= uint64(len(table)) {
		return ""
	}
	s := table[at:]
	end := bytes.IndexByte(s[:min(len(s), maxVersionName)], 0)
	if end < 0 || bytes.ContainsFunc(s[:end], func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	return string(s[:end])
}
