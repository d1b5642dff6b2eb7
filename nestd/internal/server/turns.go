package server

import (
	"sync"
	"time"
)

// turns has a crowd of guests served in turn. When hundreds begin to install
// at one moment, as on a manifest's new version, each of their programs would
// get a little of the processors all the time, and all of them together take
// half as long again as one after another: for caches, memory and the disk's
// queue are then too small for all.
//
// A guest has its turn from its first connection until that is closed, and at
// most for turnLength: who then still is at work, or waits for a download or
// for an answer, no longer counts. Nobody waits for longer than maxTurnWait,
// so guests that take turns for nothing delay others by no more than that.
type turns struct {
	places chan struct{}
}

// How many guests have their turn for each processor, for how long, and how
// long others wait for one.
const (
	turnsEach   = 4
	turnLength  = 500 * time.Millisecond
	maxTurnWait = 20 * time.Second
)

func newTurns(processors int) *turns {
	return &turns{places: make(chan struct{}, turnsEach*processors)}
}

// take waits for a turn, and returns what ends it.
func (t *turns) take(closed <-chan struct{}) (end func()) {
	select {
	case t.places <- struct{}{}: // the usual case starts no timer
	default:
		patience := time.NewTimer(maxTurnWait)
		defer patience.Stop()
		select {
		case t.places <- struct{}{}:
		case <-patience.C:
			return func() {}
		case <-closed:
			return func() {}
		}
	}
	once := sync.OnceFunc(func() { <-t.places })
	late := time.AfterFunc(turnLength, once)
	return func() { late.Stop(); once() }
}
