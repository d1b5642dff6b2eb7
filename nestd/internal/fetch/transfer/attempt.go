package transfer

import (
	"context"
	"errors"
	"time"
)

// attempt is one try to make a blob whole: the lanes that have been started,
// and what became of them.
type attempt struct {
	transfer *transfer
	blob     *Blob
	lanes    []Lane
	started  int
	running  int
	ended    chan ended
	reasons  []error   // by lane
	over     []bool    // by lane: it has ended
	mark     time.Time // since when there was less than enough progress
	stored   int64     // at that time
	seen     time.Time // when that was last looked at
}

// ended says that a lane's method has returned.
type ended struct {
	lane int
	err  error
}

// attempt returns nil when nothing is missing and no method works any more.
func (t *transfer) attempt(ctx context.Context, blob *Blob) error {
	lanes := t.lanes()
	if len(lanes) == 0 {
		return errNoMethod
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{
		transfer: t, blob: blob, lanes: lanes, ended: make(chan ended), reasons: make([]error, len(lanes)), over: make([]bool, len(lanes)),
	}
	err := a.work(ctx)
	cancel()
	for ; a.running > 0; a.running-- {
		<-a.ended
	}
	return err
}

// work starts lanes as they are needed, until the blob is whole.
func (a *attempt) work(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	done := a.blob.Done()
	select {
	case <-done:
		return nil // it was there
	default:
	}
	a.start(ctx)
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case e := <-a.ended:
			if err := a.end(ctx, e); err != nil {
				return err
			}
		case now := <-ticker.C:
			if err := a.watch(ctx, now); err != nil {
				return err
			}
		}
	}
}

// start starts the next lane.
func (a *attempt) start(ctx context.Context) {
	i := a.started
	a.started++
	a.running++
	a.mark, a.stored = time.Now(), a.blob.Stored()
	method := a.lanes[i].Method
	job := &Job{
		Order: a.transfer.order, Blob: a.blob, Log: a.transfer.scheduler.options.Log.With("method", method.Name()),
		pace: a.transfer.pace, peers: func(n int) { a.transfer.setPeers(i, n) },
	}
	go func() {
		err := method.Fetch(ctx, job)
		job.Peers(0)
		a.ended <- ended{i, err}
	}()
}

// end notes that a lane has ended. What it could not do others may; but none
// can mend this host's disk.
func (a *attempt) end(ctx context.Context, e ended) error {
	a.running--
	log := a.transfer.scheduler.options.Log
	if e.err != nil {
		log.Info("method ended", "method", a.lanes[e.lane].Method.Name(), "digest", a.blob.object.Digest, "err", e.err)
	}
	if errors.As(e.err, new(*SpoolError)) {
		return e.err
	}
	a.reasons[e.lane], a.over[e.lane] = e.err, true
	select {
	case <-a.blob.Done():
		return nil
	default:
	}
	if a.started < len(a.lanes) {
		a.start(ctx)
		return nil
	}
	if a.running > 0 {
		return nil
	}
	if reason := a.reason(); reason != nil {
		return reason
	}
	return ErrStalled // methods that give up without a reason
}

// watch starts the next lane when there is too little progress, and gives up
// when there is none left to start.
func (a *attempt) watch(ctx context.Context, now time.Time) error {
	if asleep := now.Sub(a.seen); !a.seen.IsZero() && asleep > 10*tick {
		a.mark = a.mark.Add(asleep) // this process was stopped, and so was everything else in it
	}
	a.seen = now
	stored := a.blob.Stored()
	if stored-a.stored >= a.transfer.scheduler.options.Progress || a.transfer.held.Load() > 0 {
		a.mark, a.stored = now, stored
		return nil
	}
	patience := a.patience()
	if patience == 0 || now.Sub(a.mark) < patience {
		return nil
	}
	if a.started < len(a.lanes) {
		a.transfer.scheduler.options.Log.Info("transfer stalls, the next method joins", "digest", a.blob.object.Digest,
			"stored", stored, "method", a.lanes[a.started].Method.Name())
		a.start(ctx)
		return nil
	}
	if reason := a.reason(); reason != nil {
		return reason
	}
	return ErrStalled
}

// patience is how long there may be too little progress: until the next lane
// joins, that of the last one that did; then the longest of those that work. 0
// is without end.
func (a *attempt) patience() time.Duration {
	if a.started < len(a.lanes) {
		return a.lanes[a.started-1].Stall
	}
	var longest time.Duration
	for i, lane := range a.lanes {
		if a.over[i] {
			continue
		}
		if lane.Stall == 0 {
			return 0
		}
		longest = max(longest, lane.Stall)
	}
	return longest
}

// reason is why no lane could do more; nil if none has said so.
func (a *attempt) reason() error {
	var reason error
	for _, err := range a.reasons {
		reason = worse(reason, err)
	}
	return reason
}

// setPeers notes how many peers lane i has.
func (t *transfer) setPeers(i, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers[i] = n
}
