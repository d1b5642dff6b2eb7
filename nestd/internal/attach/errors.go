package attach

import "errors"

// What an error of this package wraps, so that the core can choose the wire
// code. Any other error is a failure of the host.
var (
	// ErrNotEntitled: the peer is not who may ask: it sits in the nest's own
	// mount namespace, in a user namespace outside of the nest's, or in the
	// nest's own without being registered for it.
	ErrNotEntitled = errors.New("the guest may not ask that")
	// ErrNotAttached: the guest's view can not be reached: the process is
	// gone, or the path is not the directory that the nest made.
	ErrNotAttached = errors.New("the view can not be reached")
	// ErrUnsupported: this kernel or file system can not do it.
	ErrUnsupported = errors.New("not supported on this host")
	// ErrNoLayer: the store has no such layer, or the layer no such file.
	ErrNoLayer = errors.New("no such layer")
	// ErrTarget: the path is not one on which the nest mounts, or from which
	// it unmounts.
	ErrTarget = errors.New("nothing can be placed there")
)
