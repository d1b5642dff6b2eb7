package transfer

import (
	"context"
	"slices"
	"sync"
)

// queue lets so many transfers work at a time, those first for whom a person
// waits. Such a one does not wait for the background at all: it gets a place
// of its own.
type queue struct {
	mu      sync.Mutex
	free    map[Priority]int
	waiting []*place // in order of arrival
}

// place is where a transfer stands in the queue.
type place struct {
	queue    *queue
	priority Priority
	held     Priority // whose place it has
	admitted chan struct{}
}

func newQueue(n int) *queue {
	n = max(n, 1)
	return &queue{free: map[Priority]int{Background: n, Interactive: n}}
}

// place returns a new place at the end of the queue.
func (q *queue) place(p Priority) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := &place{queue: q, priority: p, admitted: make(chan struct{})}
	q.waiting = append(q.waiting, at)
	q.admit()
	return at
}

// raise makes a place more important, never less.
func (p *place) raise(to Priority) {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.priority = max(p.priority, to)
	p.queue.admit()
}

// current returns how important the place is now.
func (p *place) current() Priority {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	return p.priority
}

// admit lets in whoever can be. q.mu is held.
func (q *queue) admit() {
	for _, priority := range []Priority{Interactive, Background} {
		q.waiting = slices.DeleteFunc(q.waiting, func(at *place) bool {
			if at.priority != priority || q.free[priority] == 0 {
				return false
			}
			q.free[priority]--
			at.held = priority
			close(at.admitted)
			return true
		})
	}
}

// wait returns nil when it is the place's turn; then leave must be called.
func (p *place) wait(ctx context.Context) error {
	select {
	case <-p.admitted:
		return nil
	case <-ctx.Done():
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	if i := slices.Index(p.queue.waiting, p); i >= 0 {
		p.queue.waiting = slices.Delete(p.queue.waiting, i, i+1)
	} else {
		p.queue.free[p.held]++
		p.queue.admit()
	}
	return ctx.Err()
}

// leave makes room for the next one.
func (p *place) leave() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.queue.free[p.held]++
	p.queue.admit()
}
