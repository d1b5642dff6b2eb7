// Package inventory knows what a guest has besides the packages that Stork
// installed: what its rpm or dpkg database says, the sonames and symbol
// versions of its libraries, and the paths that exist. Installing into a stock
// image must not drag in another C library.
//
// [Open] costs nothing. Everything is looked up for what [Inventory.Provided]
// is asked, and cached by size and modification time of its source;
// [Inventory.Flush] keeps the cache for the next process.
package inventory

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"stork/repo"
	"stork/repo/durable"
)

// Inventory answers what one guest has. Its methods may be called from
// several goroutines.
type Inventory struct {
	// Placed reports whether Stork itself put a path there, so that it does
	// not count as the guest's own. It is asked with the path after all
	// symbolic links. Nil: nothing. Set it before first use.
	Placed func(path string) bool
	// Managed reports whether a package of the guest's rpm database, given as
	// "name-version-release.arch", is there because Stork recorded it. Nil:
	// none. Set it before first use.
	Managed func(nevra string) bool
	// Features are the rpmlib(...) capabilities of the installer; [Features]
	// unless it is set before first use.
	Features []repo.Capability

	root string
	file string // of the cache; empty: none
	disk durable.Disk

	rpmTool string

	mu    sync.Mutex
	cache *cache
	dirs  []string // of libraries, found once
}

// cacheName is the cache's file below the cache directory.
const cacheName = "inventory"

// Open returns the inventory of the guest whose root directory is root, "/"
// for the guest that the process runs in. The cache lies in cacheDir and may
// be removed at any time; if cacheDir is empty there is none.
func Open(root, cacheDir string, disk durable.Disk) *Inventory {
	i := &Inventory{root: root, disk: disk, Features: Features(), rpmTool: "rpm"}
	if cacheDir != "" {
		i.file = filepath.Join(cacheDir, cacheName)
	}
	return i
}

// Provided returns everything that the guest provides under the names of
// caps, with versions where they are known: solve compares them. A source
// that can not be read provides nothing.
func (i *Inventory) Provided(ctx context.Context, caps []repo.Capability) ([]repo.Capability, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, err := openRoot(i.root)
	if err != nil {
		return nil, fmt.Errorf("cannot look at what the guest has: %w", err)
	}
	defer r.close()
	i.load()
	var out []repo.Capability
	var names []string
	seen := map[string]bool{}
	for _, c := range caps {
		if seen[c.Name] {
			continue
		}
		seen[c.Name] = true
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot look at what the guest has: %w", err)
		}
		switch s, isSoname := parseSoname(c.Name); {
		case c.IsPath():
			if i.hasPath(r, c.Name) {
				out = append(out, repo.Capability{Name: c.Name})
			}
		case strings.HasPrefix(c.Name, "rpmlib("):
			out = append(out, i.features(c.Name)...)
		case c.Name == "rtld(GNU_HASH)":
			if i.hasLoader(r) {
				out = append(out, repo.Capability{Name: c.Name})
			}
		case isSoname:
			if i.hasSoname(r, s) {
				out = append(out, repo.Capability{Name: c.Name})
			}
		case strings.HasPrefix(c.Name, "config("):
			// Who has the files of a package has its configuration; the guest's
			// own package of that name is another one.
		default:
			names = append(names, c.Name)
		}
	}
	databases, err := i.databases(ctx, r, names)
	return append(out, databases...), err
}

// databases asks the guest's package databases for names.
func (i *Inventory) databases(ctx context.Context, r root, names []string) ([]repo.Capability, error) {
	if len(names) == 0 {
		return nil, nil
	}
	i.readStatus(r)
	if err := i.askRPM(ctx, r, names); err != nil {
		return nil, err
	}
	var out []repo.Capability
	for _, name := range names {
		for _, version := range i.cache.dpkg[name] {
			out = append(out, capability(name, upstream(version)))
		}
		for _, held := range i.cache.rpm[name] {
			if i.Managed == nil || held.nevra == "" || !i.Managed(held.nevra) {
				out = append(out, held.cap)
			}
		}
	}
	return out, nil
}

func capability(name string, evr repo.EVR) repo.Capability {
	if evr.Version == "" {
		return repo.Capability{Name: name}
	}
	return repo.Capability{Name: name, Op: repo.Equal, EVR: evr}
}

// hasPath reports whether path exists in the guest and is its own.
func (i *Inventory) hasPath(r root, path string) bool {
	f, err := r.find(path)
	if err != nil {
		return false
	}
	defer f.close()
	return !i.placed(f)
}

// placed reports whether Stork put the file there.
func (i *Inventory) placed(f found) bool {
	if i.Placed == nil {
		return false
	}
	path, err := f.path()
	return err == nil && i.Placed(path)
}
