package share

import (
	"strings"

	"stork/repo"
)

// privateTrees are the directories below which nothing is shared: what lies
// there belongs to the guest and is written in place. /boot is one of them,
// for boot loaders read it when nothing is mounted yet; /dev, /proc and /sys,
// for the kernel's file systems lie over them.
var privateTrees = []string{"/boot", "/dev", "/home", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var"}

// Private reports whether a guest gets a file of its own instead of the
// shared one. That is so for
//
//   - configuration files, which the guest's owner edits, and ghosts, which
//     only scriptlets make (they are listed, never placed);
//   - what is not root's, since users and groups are the guest's own numbers;
//   - everything at or below /boot, /dev, /home, /proc, /root, /run, /srv,
//     /sys, /tmp and /var;
//   - fifos and device nodes;
//   - directories with set-ID or sticky bits or that others than root may
//     write: a read-only mount would take their meaning away.
//
// Nest and guest both use it: the nest to choose what it lists in
// api.Prepared, the guest to place it.
func Private(f *repo.File) bool {
	switch f.Type {
	case repo.Fifo, repo.Char, repo.Block:
		return true
	case repo.Dir:
		if f.Mode&0o7022 != 0 {
			return true
		}
	}
	return f.Has(repo.Config) || f.Has(repo.Ghost) || !f.RootOwned() || inTrees(privateTrees, f.Path)
}

// inTrees reports whether p is one of trees or lies below one.
func inTrees(trees []string, p string) bool {
	for _, tree := range trees {
		if p == tree || strings.HasPrefix(p, tree) && p[len(tree)] == '/' {
			return true
		}
	}
	return false
}
