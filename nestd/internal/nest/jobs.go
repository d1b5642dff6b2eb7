package nest

import (
	"context"
	"sync"

	"stork/nestd/api"
	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/store"
	"stork/repo"
)

// jobs are the packages that are being prepared. There is at most one job for
// a package, whoever asks, and so one download.
type jobs struct {
	mu       sync.Mutex
	running  map[repo.Digest]*job
	unplaced map[repo.Digest]*store.Stage // have a row, but could not be renamed (rule N2)

	builds  *places // one for each package whose record is in memory, and so for each download
	unpacks *places // one for each unpacker at a time
}

// How many packages are worked on at a time, and how many of these are being
// unpacked. Unpackers are bound by processors and disk, and take memory. A
// request may name thousands of packages, and a record may have 16 MB.
const (
	maxBuilds  = 16
	maxUnpacks = 3
)

func newJobs() *jobs {
	return &jobs{
		running: map[repo.Digest]*job{}, unplaced: map[repo.Digest]*store.Stage{},
		builds: newPlaces(maxBuilds), unpacks: newPlaces(maxUnpacks),
	}
}

// job prepares one package. It goes on until it is done or nobody waits.
type job struct {
	id     repo.Digest
	cancel context.CancelFunc
	done   chan struct{} // closed when err and layer are final
	wanted chan struct{} // closed when a guest waits, and not only the operator for nobody
	err    error
	result api.Prepared // as the one who started the job sees it

	mu       sync.Mutex
	progress api.Progress
	waiters  map[string]int // guests, and nobody
}

// priority is how important the job is now: a prefetch lets those go first
// for whom a person waits.
func (j *job) priority() transfer.Priority {
	select {
	case <-j.wanted:
		return transfer.Interactive
	default:
		return transfer.Background
	}
}

func (j *job) report(phase api.Phase, done, total int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = api.Progress{ID: j.id, Phase: phase, Done: done, Total: total}
}

func (j *job) state() api.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.progress
}

// guests lists who waits.
func (j *job) guests() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var names []string
	for name := range j.waiters {
		names = append(names, name)
	}
	return names
}

// join returns the job for a package, started if there is none: then first
// is true.
func (n *Nest) join(guest string, id repo.Digest, run func(context.Context, *job) error) (j *job, first bool) {
	s := n.jobs
	s.mu.Lock()
	defer s.mu.Unlock()
	if j = s.running[id]; j == nil {
		ctx, cancel := context.WithCancel(n.life)
		j = &job{id: id, cancel: cancel, done: make(chan struct{}), wanted: make(chan struct{}), waiters: map[string]int{}}
		j.progress = api.Progress{ID: id, Phase: api.Waiting}
		s.running[id], first = j, true
		n.work.Add(1)
		go func() {
			defer n.work.Done()
			j.err = run(ctx, j)
			s.mu.Lock()
			if s.running[id] == j {
				delete(s.running, id)
			}
			s.mu.Unlock()
			close(j.done)
			cancel()
		}()
	}
	j.mu.Lock()
	j.waiters[guest]++
	j.mu.Unlock()
	if guest != nobody && j.priority() == transfer.Background {
		close(j.wanted) // once, for s.mu is held
	}
	return j, first
}

// leave takes a guest from a job, which ends if it was the last one: what it
// has fetched stays in the spool for the next try.
func (n *Nest) leave(guest string, j *job) {
	s := n.jobs
	s.mu.Lock()
	defer s.mu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiters[guest]--; j.waiters[guest] == 0 {
		delete(j.waiters, guest)
	}
	if len(j.waiters) > 0 {
		return
	}
	j.cancel()
	if s.running[j.id] == j {
		delete(s.running, j.id) // whoever comes next waits for a job that is not dying
	}
}
