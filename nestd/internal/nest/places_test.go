package nest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPlaces fills all places with what nobody waits for, and wants one for a
// person at once.
func TestPlaces(t *testing.T) {
	t.Parallel()
	p := newPlaces(maxUnpacks)
	never, wanted := make(chan struct{}), make(chan struct{})
	close(wanted)
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	var release []func()
	for range maxUnpacks - 1 {
		leave, err := p.take(soon(), never)
		must(t, err)
		release = append(release, leave)
	}
	if _, err := p.take(soon(), never); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the background took the last place: %v", err)
	}
	comes := make(chan struct{})
	time.AfterFunc(10*time.Millisecond, func() { close(comes) })
	leave, err := p.take(t.Context(), comes) // somebody comes to wait for it
	must(t, err)
	if _, err := p.take(soon(), wanted); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("there were more than %d places: %v", maxUnpacks, err)
	}
	leave()
	last, err := p.take(soon(), wanted)
	must(t, err)
	for _, leave := range append(release, last) {
		leave()
	}
	if len(p.all) != 0 || len(p.background) != 0 {
		t.Errorf("%d and %d places are still held", len(p.all), len(p.background))
	}
}
