package api

import "stork/repo"

// EnvironmentRequest asks for one merged tree of all the packages, to be
// mounted in the guest's view in the form of one or more directories: the
// lower layers of an overlay. The guest has prepared the packages, and must
// run in its mount namespace, as with [AttachRequest].
//
// Files that are private to each guest (see [Prepared]) are not in the trees,
// but their directories are.
//
// The guest's reference to the environment is committed before the trees are
// mounted (rule N3). It refers to the environment asked for, and until it asks
// for another to the one before, so that it can swap them; and to those of
// Keep that it refers to already. Every other one is taken out of the view and
// may be dropped. With no packages, the guest refers to no environment but
// those of Keep from then on, and none is built.
type EnvironmentRequest struct {
	Packages []repo.Digest     `json:"packages"`          // at most MaxEnvironmentPackages
	Aliases  map[string]string `json:"aliases,omitempty"` // at most MaxAliases
	Keep     []repo.Digest     `json:"keep,omitempty"`    // IDs of environments that are mounted now; at most MaxKeep
	View     string            `json:"view"`
}

// EnvironmentResponse says where the trees are. Other guests with the same
// packages and aliases have the same ID, but not always the same trees.
type EnvironmentResponse struct {
	ID    repo.Digest `json:"id"`    // of this set of packages and aliases
	Trees []string    `json:"trees"` // paths in the guest, topmost first; at most MaxTrees; none without packages
}

// Limits of environments.
//
// Aliases are symlinks of the guest's own to directories, as "/bin" →
// "/usr/bin": what a package has below the one goes below the other. Both are
// absolute and clean; no alias is below another, and no target is an alias or
// below one.
const (
	MaxEnvironmentPackages = 10000
	MaxAliases             = 32
	MaxKeep                = 4
	MaxTrees               = 8
)

// UpperRequest asks for a writable directory of the guest's own on the nest's
// disk, to be mounted in the view at [UpperName]: for guests whose own root is
// an overlay, which can not hold the upper directory of another. It is empty
// at first and lasts until the guest is removed from the nest. The mount is
// nodev and nosuid.
type UpperRequest struct {
	View string `json:"view"`
}

// UpperResponse says where the directory is.
type UpperResponse struct {
	Path string `json:"path"` // in the guest
}
