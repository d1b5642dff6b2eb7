package attach

import (
	"errors"
	"testing"
)

// TestAdmit: a guest's root may have it changed, and its other users may not.
// Those that make themselves root of a namespace further below are in the
// end-to-end script "users".
func TestAdmit(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := newStore(t).open()
	tests := map[string]struct {
		kind guestKind
		may  bool
	}{
		"root":                           {guestKind{users: true, mounts: true}, true},
		"root of the host's users":       {guestKind{mounts: true}, true},
		"another user":                   {guestKind{users: true, mounts: true, nobody: true}, false},
		"another of the host's users":    {guestKind{mounts: true, nobody: true}, false},
		"root of a namespace of one":     {guestKind{users: true, mounts: true, single: true}, true},
		"root without a mount namespace": {guestKind{users: true}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := a.Admit(startGuest(t, test.kind).peer)
			if test.may && err != nil || !test.may && !errors.Is(err, ErrNotEntitled) {
				t.Errorf("may: %v; said %v", test.may, err)
			}
		})
	}
}
