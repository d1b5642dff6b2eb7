package inventory

import (
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stork/repo"
)

// cache is what was read before. It is never the only copy of anything: each
// part is dropped when its source has changed, all of it when it can not be
// read.
type cache struct {
	dpkg      map[string][]string // Debian's versions by name; nil: not read
	dpkgStamp stamp
	rpm       map[string][]held // by name that was asked for; nil: never asked
	rpmStamp  stamp
	elf       map[string]library // by path
	changed   bool
}

// cacheHeader names the format and its version.
const cacheHeader = "stork inventory 1"

const maxCache = 64 << 20 // bytes

func newCache() *cache { return &cache{elf: map[string]library{}} }

// load reads the cache once.
func (i *Inventory) load() {
	if i.cache != nil {
		return
	}
	i.cache = newCache()
	if i.file == "" {
		return
	}
	st, err := os.Stat(i.file)
	if err != nil || st.Size() > maxCache {
		return
	}
	b, err := os.ReadFile(i.file)
	if err != nil {
		return
	}
	if c, err := parseCache(string(b)); err == nil {
		i.cache = c
	}
}

// Flush keeps what was learnt for the next process. It is apart from
// [Inventory.Provided] because it waits for the disk. Without a cache
// directory, or without news, it does nothing.
func (i *Inventory) Flush() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.file == "" || i.cache == nil || !i.cache.changed {
		return nil
	}
	if err := i.disk.MkdirAll(filepath.Dir(i.file), 0o755); err != nil {
		return fmt.Errorf("cannot keep the inventory's cache: %w", err)
	}
	if err := i.disk.WriteFile(i.file, i.cache.format(), 0o644); err != nil {
		return fmt.Errorf("cannot keep the inventory's cache: %w", err)
	}
	i.cache.changed = false
	return nil
}

// format writes the cache as lines of a letter and fields between tabs:
//
//	d size mtime                  dpkg's database
//	n name version…               what it provides
//	r size mtime                  rpm's database
//	q name                        a name it was asked for
//	c nevra capability            what it provides under the last name
//	e size mtime class machine path
//	v version…                    symbol versions of the last library
func (c *cache) format() []byte {
	var b strings.Builder
	line := func(fields ...string) { b.WriteString(strings.Join(fields, "\t") + "\n") }
	line(cacheHeader)
	if c.dpkg != nil {
		line(append([]string{"d"}, c.dpkgStamp.fields()...)...)
		for _, name := range slices.Sorted(maps.Keys(c.dpkg)) {
			line(append([]string{"n", name}, c.dpkg[name]...)...)
		}
	}
	if c.rpm != nil {
		line(append([]string{"r"}, c.rpmStamp.fields()...)...)
		for _, name := range slices.Sorted(maps.Keys(c.rpm)) {
			line("q", name)
			for _, h := range c.rpm[name] {
				line("c", h.nevra, h.cap.String())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.elf)) {
		lib := c.elf[name]
		line(append(append([]string{"e"}, lib.stamp.fields()...), strconv.FormatBool(lib.is64), strconv.Itoa(int(lib.machine)), name)...)
		if len(lib.versions) > 0 {
			line(append([]string{"v"}, lib.versions...)...)
		}
	}
	return []byte(b.String())
}

func (s stamp) fields() []string {
	return []string{strconv.FormatInt(s.size, 10), strconv.FormatInt(s.mtime, 10)}
}

var errCache = errors.New("cannot read the inventory's cache")

// cacheReader parses the lines one by one.
type cacheReader struct {
	c    *cache
	name string // of the last q
	path string // of the last e
}

func parseCache(s string) (*cache, error) {
	header, rest, ok := strings.Cut(s, "\n")
	if !ok || header != cacheHeader || rest != "" && !strings.HasSuffix(rest, "\n") {
		return nil, errCache
	}
	r := cacheReader{c: newCache()}
	for line := range strings.Lines(rest) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if !r.line(fields[0], fields[1:]) {
			return nil, errCache
		}
	}
	return r.c, nil
}

func (r *cacheReader) line(kind string, fields []string) bool {
	switch kind {
	case "d":
		return r.section(fields, &r.c.dpkgStamp, func() { r.c.dpkg = map[string][]string{} }, r.c.dpkg == nil)
	case "n":
		return r.dpkgName(fields)
	case "r":
		return r.section(fields, &r.c.rpmStamp, func() { r.c.rpm = map[string][]held{} }, r.c.rpm == nil)
	case "q":
		if len(fields) != 1 || r.c.rpm == nil {
			return false
		}
		r.name = fields[0]
		r.c.rpm[r.name] = nil
		return true
	case "c":
		return r.rpmCapability(fields)
	case "e":
		return r.library(fields)
	case "v":
		lib, ok := r.c.elf[r.path]
		if !ok || len(lib.versions) > 0 {
			return false
		}
		lib.versions = slices.Clone(fields)
		r.c.elf[r.path] = lib
		return len(fields) > 0
	}
	return false
}

// section begins a database's part, which may stand there once.
func (r *cacheReader) section(fields []string, s *stamp, begin func(), first bool) bool {
	if len(fields) != 2 || !first {
		return false
	}
	begin()
	return parseStamp(fields, s)
}

func parseStamp(fields []string, s *stamp) bool {
	var err1, err2 error
	s.size, err1 = strconv.ParseInt(fields[0], 10, 64)
	s.mtime, err2 = strconv.ParseInt(fields[1], 10, 64)
	return err1 == nil && err2 == nil
}

func (r *cacheReader) dpkgName(fields []string) bool {
	if len(fields) < 2 || r.c.dpkg == nil {
		return false
	}
	r.c.dpkg[fields[0]] = fields[1:]
	return true
}

func (r *cacheReader) rpmCapability(fields []string) bool {
	if len(fields) != 2 || r.c.rpm == nil {
		return false
	}
	if _, asked := r.c.rpm[r.name]; !asked {
		return false
	}
	c, err := repo.ParseCapability(fields[1])
	if err != nil || c.Name != r.name {
		return false
	}
	r.c.rpm[r.name] = append(r.c.rpm[r.name], held{fields[0], c})
	return true
}

func (r *cacheReader) library(fields []string) bool {
	if len(fields) != 5 {
		return false
	}
	var lib library
	is64, err1 := strconv.ParseBool(fields[2])
	machine, err2 := strconv.ParseUint(fields[3], 10, 16)
	if !parseStamp(fields, &lib.stamp) || err1 != nil || err2 != nil {
		return false
	}
	lib.is64, lib.machine = is64, elf.Machine(machine)
	r.path = fields[4]
	r.c.elf[r.path] = lib
	return true
}
