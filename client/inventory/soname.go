package inventory

import (
	"debug/elf"
	"path"
	"runtime"
	"slices"
	"strings"
)

// soname is a capability such as "libc.so.6(GLIBC_2.34)(64bit)", as rpm's
// elfdeps generates it.
type soname struct {
	file    string // "libc.so.6"
	version string // "GLIBC_2.34", empty for the library itself
	is64    bool
}

// parseSoname reads the name of a capability. Of 32-bit libraries that is
// "libc.so.6" or "libc.so.6(GLIBC_2.0)", else it ends in "()(64bit)" or
// "(version)(64bit)".
func parseSoname(name string) (soname, bool) {
	rest, is64 := strings.CutSuffix(name, "(64bit)")
	s := soname{is64: is64, file: rest}
	if before, version, ok := strings.Cut(rest, "("); ok {
		version, closed := strings.CutSuffix(version, ")")
		if !closed || strings.ContainsAny(version, "() ") || !is64 && version == "" {
			return soname{}, false
		}
		s.file, s.version = before, version
	} else if is64 {
		return soname{}, false
	}
	at := strings.Index(s.file, ".so")
	if at <= 0 || strings.ContainsAny(s.file, "/ ()") || at+3 < len(s.file) && s.file[at+3] != '.' && s.file[at+3] != '-' {
		return soname{}, false
	}
	return s, true
}

// machines are the ELF machines whose libraries the guest can load, by
// whether they are 64-bit.
func machines(goarch string) map[bool]elf.Machine {
	switch goarch {
	case "amd64":
		return map[bool]elf.Machine{true: elf.EM_X86_64, false: elf.EM_386}
	case "arm64":
		return map[bool]elf.Machine{true: elf.EM_AARCH64, false: elf.EM_ARM}
	case "ppc64le", "ppc64":
		return map[bool]elf.Machine{true: elf.EM_PPC64}
	case "s390x":
		return map[bool]elf.Machine{true: elf.EM_S390}
	case "riscv64":
		return map[bool]elf.Machine{true: elf.EM_RISCV}
	case "386":
		return map[bool]elf.Machine{false: elf.EM_386}
	}
	return nil
}

// hasSoname reports whether a library of the guest itself is what s asks for,
// in the directory where the dynamic loader finds it first.
func (i *Inventory) hasSoname(r root, s soname) bool {
	for _, dir := range i.libraryDirs(r) {
		lib, ok := i.library(r, path.Join(dir, s.file))
		if ok && lib.is64 == s.is64 {
			return s.version == "" || slices.Contains(lib.versions, s.version)
		}
	}
	return false
}

// library returns what a library of the guest provides, from the cache if
// the file has not changed.
func (i *Inventory) library(r root, name string) (library, bool) {
	f, err := r.find(name)
	if err != nil {
		return library{}, false
	}
	defer f.close()
	st, err := f.stamp()
	if err != nil || i.placed(f) {
		return library{}, false
	}
	lib, ok := i.cache.elf[name]
	if !ok || lib.stamp != st {
		file, err := r.open(name)
		if err != nil {
			return library{}, false
		}
		defer file.Close()
		lib = readLibrary(file)
		lib.stamp = st
		i.cache.elf[name] = lib
		i.cache.changed = true
	}
	native, known := machines(runtime.GOARCH)[lib.is64]
	return lib, known && lib.machine == native
}

// loaders are the names of dynamic loaders that know GNU_HASH: all of glibc
// since 2.5, of 2006.
var loaders = map[string]string{
	"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1", "386": "ld-linux.so.2",
	"ppc64le": "ld64.so.2", "ppc64": "ld64.so.1", "s390x": "ld64.so.1", "riscv64": "ld-linux-riscv64-lp64d.so.1",
}

func (i *Inventory) hasLoader(r root) bool {
	name, ok := loaders[runtime.GOARCH]
	return ok && i.hasSoname(r, soname{file: name, is64: runtime.GOARCH != "386"})
}

// Bounds on what is read of the loader's configuration.
const (
	maxConf    = 64 << 10 // bytes of one file
	maxConfs   = 200      // files
	maxLibDirs = 200
)

// libraryDirs returns where the guest's dynamic loader looks, in its order
// (ld.so(8), ldconfig(8)).
func (i *Inventory) libraryDirs(r root) []string {
	if i.dirs != nil {
		return i.dirs
	}
	budget := maxConfs
	var dirs []string
	readConf(r, "/etc/ld.so.conf", &budget, &dirs)
	if triplet, ok := triplets[runtime.GOARCH]; ok {
		dirs = append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet)
	}
	dirs = append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib32", "/usr/lib32")
	var unique []string
	seen := map[string]bool{}
	for _, dir := range dirs {
		f, err := r.find(dir)
		if err != nil {
			continue
		}
		real, err := f.path()
		f.close()
		if err == nil && !seen[real] && len(unique) < maxLibDirs {
			seen[real] = true
			unique = append(unique, real)
		}
	}
	i.dirs = append([]string{}, unique...)
	return i.dirs
}

// triplets are Debian's multiarch directories (wiki.debian.org/Multiarch/Tuples).
var triplets = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "386": "i386-linux-gnu", "ppc64le": "powerpc64le-linux-gnu",
	"s390x": "s390x-linux-gnu", "riscv64": "riscv64-linux-gnu",
}

// readConf reads a file in ld.so.conf's form. budget bounds how many files
// are read, so that one that includes itself ends.
func readConf(r root, name string, budget *int, dirs *[]string) {
	if *budget--; *budget < 0 {
		return
	}
	b, err := r.read(name, maxConf)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		pattern, isInclude := strings.CutPrefix(line, "include ")
		switch {
		case isInclude:
			readIncludes(r, path.Join(path.Dir(name), "x"), strings.TrimSpace(pattern), budget, dirs)
		case strings.HasPrefix(line, "/"):
			*dirs = append(*dirs, path.Clean(line))
		}
	}
}

// readIncludes reads the files of an include line; a pattern stands in the
// last element of the path only.
func readIncludes(r root, from, pattern string, budget *int, dirs *[]string) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(from), pattern)
	}
	names, err := r.list(path.Dir(pattern))
	if err != nil {
		return
	}
	slices.Sort(names)
	for _, name := range names {
		if ok, err := path.Match(path.Base(pattern), name); err == nil && ok {
			readConf(r, path.Join(path.Dir(pattern), name), budget, dirs)
		}
	}
}
