package api

import "stork/repo"

// PlacementRequest has the nest change what of layers is mounted in the guest,
// for a guest that may not mount. The guest must be registered for it
// ([GuestRequest]), unless it only removes, or replaces what the nest has
// placed, and have prepared the packages. Who asks must run in its mount
// namespace, as with [AttachRequest], and have connected as its root.
//
// The changes are made in order, and the first that fails ends it; those
// before it stay. What is so already stays too, so a request can be repeated.
// The guest's references to the layers are committed before (rule N3).
type PlacementRequest struct {
	Changes []MountChange `json:"changes"` // at most MaxMountChanges
	View    string        `json:"view"`
}

// MountChange is a change of what is mounted at one path.
//
// Path is absolute and clean, in the root directory of the process that asks.
// Nothing on the way may be a symlink, and it must be in the guest's own tree
// of files: not in /proc or another file system that is an interface, and not
// in the directory that the nest gives the guest. What is to be mounted on
// must be there, a directory for a directory, a file for a file.
type MountChange struct {
	Kind   MountKind   `json:"kind"`
	Path   string      `json:"path"`
	Layer  repo.Digest `json:"layer,omitzero"`   // for place and replace: package ID
	Source string      `json:"source,omitempty"` // and path of a file or directory in its layer
}

// MountKind is one kind of change.
type MountKind string

// The kinds. Only what comes from the nest's store is ever taken away.
const (
	MountPlace   MountKind = "place"   // over whatever is there
	MountReplace MountKind = "replace" // instead of the topmost mount, which must be the nest's if there is one
	MountRemove  MountKind = "remove"  // the topmost mount goes, if there is one
	MountClear   MountKind = "clear"   // all go, down to the first that is not the nest's
)

// MaxMountChanges is how many changes one request may have.
const MaxMountChanges = 1000
