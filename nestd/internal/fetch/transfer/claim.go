package transfer

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"
)

// ErrTaken says that the rest of a claim belongs to somebody else by now, or
// that there is none: who holds it asks for another one.
var ErrTaken = errors.New("the rest is another's")

// Claim is a range of missing bytes that its holder is about to bring, from
// its beginning to its end. Nobody else claims them, so that sources of one
// method, and several methods, share the work; but see [Blob.Claim]. A Claim
// belongs to one goroutine.
type Claim struct {
	blob *Blob
	from Source

	// Under blob.mu: at moves with what is written, to may shrink.
	at, to int64
	start  Range
	begun  time.Time
	last   time.Time // of a write, or the beginning
}

// When a claim is taken from who holds it.
const (
	tardy    = 2 * time.Second // it brought nothing for that long, or will need that much longer
	minShare = 256 << 10       // bytes; less is not divided
)

// Claim waits for something that its caller can bring: a range of at most
// most bytes that is missing and not claimed. When there is none left it may
// take one, or the second half of one, from a source that has become slow.
// It returns nil when the blob is whole, and the error of ctx when that ends.
// Whoever gets a claim must release it.
func (b *Blob) Claim(ctx context.Context, from Source, most int64) (*Claim, error) {
	for {
		changed := b.Changed()
		c, whole := b.claim(from, most)
		if c != nil || whole {
			return c, nil
		}
		timer := time.NewTimer(tardy / 8) // others may have become slow, of which nobody tells
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// claim returns a claim if there is one now.
func (b *Blob) claim(from Source, most int64) (c *Claim, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stored == b.object.Size {
		return nil, true
	}
	now := time.Now()
	r, ok := b.offer(most)
	if !ok {
		r, ok = b.steal(now)
	}
	if !ok {
		return nil, false
	}
	c = &Claim{blob: b, from: from, at: r.From, to: r.To, start: r, begun: now, last: now}
	b.claims = append(b.claims, c)
	return c, false
}

// free is Free; b.mu is held.
func (b *Blob) free() []Range {
	taken := append(spans{}, b.have...)
	for _, c := range b.claims {
		for _, gap := range taken.gaps(Range{c.at, c.to}) {
			taken = taken.add(gap, nil)
		}
	}
	return taken.gaps(Range{0, b.object.Size})
}

// offer returns the first free range. Where pieces are known it ends with one
// of them, so that each has one sender who can be blamed.
func (b *Blob) offer(most int64) (Range, bool) {
	free := b.free()
	if b.scatter && b.pieces != nil {
		free, most = b.scattered(free), b.pieces.Length
	}
	if len(free) == 0 {
		return Range{}, false
	}
	r := free[0]
	r.To = min(r.To, r.From+max(most, 1))
	if b.pieces != nil && r.To < free[0].To {
		length := b.pieces.Length
		if end := r.To / length * length; end > r.From {
			r.To = end
		} else {
			r.To = min(end+length, free[0].To)
		}
	}
	return r, true
}

// scattered returns some free piece, or what is free of it: any that nobody in
// the swarm has, for the others will come from there, and nothing while such
// come. So those who fetch the same blob at the same moment fetch different
// pieces from the server, and exchange them.
func (b *Blob) scattered(free []Range) []Range {
	length := b.pieces.Length
	var candidates []Range
	for _, r := range free {
		for from := r.From; from < r.To; from = (from/length + 1) * length {
			if i := int(from / length); b.around == nil || !b.around(i) {
				candidates = append(candidates, Range{from, min((from/length+1)*length, r.To)})
			}
		}
	}
	if len(candidates) == 0 {
		if time.Since(b.moved) < tardy {
			return nil
		}
		return free
	}
	return candidates[mathrand.IntN(len(candidates)):][:1]
}

// Around says which pieces others have who will send them, and that bytes of
// theirs are coming; nil: none.
func (b *Blob) Around(has func(piece int) bool, moving bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.around = has; moving {
		b.moved = time.Now()
	}
}

// steal takes from the claim that would be finished last: all of it from one
// that stands still, half of it from one that is slow.
func (b *Blob) steal(now time.Time) (Range, bool) {
	var victim *Claim
	var latest time.Duration
	for _, c := range b.claims {
		if wait := c.wait(now); c.at < c.to && wait > latest {
			victim, latest = c, wait
		}
	}
	if victim == nil || latest < tardy {
		return Range{}, false
	}
	r := Range{victim.at, victim.to}
	if now.Sub(victim.last) < tardy {
		if r.Len() < 2*minShare {
			return Range{}, false
		}
		r.From += r.Len() / 2
	}
	victim.to = r.From
	return r, true
}

// wait guesses how long the claim will take from now on.
func (c *Claim) wait(now time.Time) time.Duration {
	if silent := now.Sub(c.last); silent >= tardy {
		return time.Hour + silent
	}
	written, took := c.at-c.start.From, now.Sub(c.begun)
	if took < tardy/2 {
		return 0 // too early to say
	}
	return time.Duration(float64(took) / float64(max(written, 1)) * float64(c.to-c.at))
}

// Range returns what is claimed: all of it, from the beginning.
func (c *Claim) Range() Range { return c.start }

// Write takes the next bytes of the range, and [ErrTaken] says that the range
// has ended before all of p: perhaps because somebody else has taken its end.
// Other errors are those of [Blob.WriteAt].
func (c *Claim) Write(p []byte) (int, error) {
	c.blob.mu.Lock()
	defer c.blob.mu.Unlock()
	n := min(int64(len(p)), c.to-c.at)
	if err := c.blob.write(c.from, p[:n], c.at); err != nil {
		return 0, err
	}
	c.at += n
	c.last = time.Now()
	if n < int64(len(p)) {
		c.blob.sources.of(c.from).Received += int64(len(p)) - n
		return int(n), ErrTaken
	}
	return int(n), nil
}

// Left returns how many bytes of the claim are still to come.
func (c *Claim) Left() int64 {
	c.blob.mu.Lock()
	defer c.blob.mu.Unlock()
	return c.to - c.at
}

// Release gives back what was not written. It may be called again.
func (c *Claim) Release() {
	c.blob.mu.Lock()
	defer c.blob.mu.Unlock()
	for i, other := range c.blob.claims {
		if other == c {
			c.blob.claims = append(c.blob.claims[:i], c.blob.claims[i+1:]...)
			c.blob.change()
			return
		}
	}
}
