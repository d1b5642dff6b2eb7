package share

import (
	"context"
	"errors"
)

// ErrNoMounter is wrapped by errors of a [Mounter] that say nothing about the
// changes: it can not be reached, or has ended at work. The same may succeed
// later.
var ErrNoMounter = errors.New("what mounts for the guest does not answer")

// Mounter changes what of the layers is mounted in the guest. It is the seam
// between deciding, which is this package's, and doing: the kernel does it
// where the guest may mount in its own namespace, the nest where it may not.
// Overlays are the kernel's alone, see docs/architecture.md.
type Mounter interface {
	// Change does all changes in order, and stops at the first that fails. A
	// change can be repeated: what is so already stays.
	Change(ctx context.Context, changes []MountChange) error
}

// MountChange is a change of what is mounted at one path of the guest.
type MountChange struct {
	Kind MountKind
	Path string // in the guest; nothing on the way is a symlink
	From Origin // what is to appear there; none for MountRemove and MountClear

	at     place // Path
	source layerPath
}

// MountKind is one kind of change.
type MountKind string

// The kinds.
const (
	MountPlace   MountKind = "place"   // over whatever is there
	MountReplace MountKind = "replace" // instead of the topmost mount, with no moment without either where the kernel can
	MountRemove  MountKind = "remove"  // the topmost mount goes
	MountClear   MountKind = "clear"   // all of them go
)

// MaxMountChanges is how many changes a Mounter is handed at a time.
const MaxMountChanges = 1000

// MountBy has the layers' mounts made by m instead of by the kernel in the
// caller's own namespace. Unless it places, it only takes away and replaces
// what it has placed before.
func (r *Root) MountBy(m Mounter, places bool) { r.mounter, r.places = m, places }

// batch is how many changes may be collected before they are made.
func (r *Root) batch() int {
	if r.mounter == nil {
		return 1
	}
	return MaxMountChanges
}

// change makes changes. Each is a step of its own where a test injects faults.
func (r *Root) change(ctx context.Context, changes ...MountChange) error {
	switch {
	case len(changes) == 0:
		return nil
	case r.mounter == nil:
		return kernel{r}.Change(ctx, changes)
	case r.disk.Fault == nil:
		return r.mounter.Change(ctx, changes)
	}
	for i := range changes {
		step := StepMount
		if changes[i].Kind == MountRemove || changes[i].Kind == MountClear {
			step = StepUnmount
		}
		if err := r.step(step, changes[i].Path, func() error { return r.mounter.Change(ctx, changes[i:i+1]) }); err != nil {
			return err
		}
	}
	return nil
}
