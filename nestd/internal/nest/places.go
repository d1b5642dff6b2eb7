package nest

import (
	"context"
)

// places let so many jobs do something at a time. Those that nobody waits for
// get all of them but one quarter, and at least one: so a person never waits
// for a background that has thousands of packages before it.
type places struct {
	all        chan struct{}
	background chan struct{} // held beside one of all
}

func newPlaces(n int) *places {
	return &places{all: make(chan struct{}, n), background: make(chan struct{}, n-(n+3)/4)}
}

// take waits for a place for a job, which stops being in the background when a
// guest comes to wait for it.
func (p *places) take(ctx context.Context, wanted <-chan struct{}) (release func(), err error) {
	leave := func() {}
	select {
	case <-wanted:
	default:
		select {
		case p.background <- struct{}{}:
			leave = func() { <-p.background }
		case <-wanted:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	free, err := take(ctx, p.all)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { free(); leave() }, nil
}

// take waits for a place.
func take(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
