// Package inventory knows what a guest has besides the packages that Stork
// installed: what its rpm or dpkg database says, the sonames and symbol
// versions of its libraries, and the paths that exist. Installing into a stock
// image must not drag in another C library.
//
// [Open] costs nothing. Everything is looked up for what [Inventory.Provided]
// is asked, and cached by size and modification time of its source.
package inventory

import (
	"context"

	"stork/repo"
	"stork/repo/durable"
)

// Inventory answers what one guest has. Its methods may be called from
// several goroutines.
type Inventory struct {
	// Placed reports whether Stork itself put a path there, so that it does
	// not count as the guest's own. Nil: nothing. It is set before first use.
	Placed func(path string) bool

	root     string
	cacheDir string
	disk     durable.Disk
}

// Open returns the inventory of the guest whose root directory is root, "/"
// for the guest that the process runs in. Caches lie in cacheDir and may be
// removed at any time; if it is empty there are none.
func Open(root, cacheDir string, disk durable.Disk) *Inventory {
	return &Inventory{root: root, cacheDir: cacheDir, disk: disk}
}

// Provided returns everything that the guest provides under the names of
// caps, with versions where they are known. A source that can not be read
// provides nothing; the error is ctx's or that of a broken tool.
func (i *Inventory) Provided(ctx context.Context, caps []repo.Capability) ([]repo.Capability, error) {
	return nil, ctx.Err()
}

// Owner returns which package of the guest's own owns path, as "name
// version", for messages; empty if none or unknown.
func (i *Inventory) Owner(ctx context.Context, path string) (string, error) {
	return "", ctx.Err()
}
