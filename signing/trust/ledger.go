package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

const (
	stateFormat = 1
	stateName   = "trust.json"
	maxState    = 64 << 20
)

// Options say which repository a ledger is about.
type Options struct {
	Dir  string           // where it lies, durable; one repository, any number of processes
	Root repo.Digest      // SHA-256 of metadata/1.root.json: the repository's identity
	Disk durable.Disk     // writes Dir
	Now  func() time.Time // the clock; nil means time.Now

	// Deferred has what was seen recorded by Keep, all at once, and not by
	// each refresh and lookup: for one who verifies several things before
	// acting on any of them (docs/ordering.md, G5).
	Deferred bool
}

// Ledger keeps the trust state of one repository. It may be used by several
// goroutines.
type Ledger struct {
	Options // read only

	mu      sync.Mutex // serializes changes of the trust state within this process; guards what follows
	state   *State     // if Deferred: as it will be when pending is recorded; nil: to be read
	pending []Change
}

// Open reads the trust state; that of a repository never seen is empty.
func Open(o Options) (*Ledger, error) {
	if o.Root.IsZero() || o.Dir == "" {
		return nil, errors.New("cannot follow a repository: its root digest and a directory for trust state are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Disk.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make trust state: %w", err)
	}
	l := &Ledger{Options: o}
	if _, err := l.Current(); err != nil {
		return nil, err
	}
	return l, nil
}

// load reads the trust state. It can not be made good from the
// repository, so damage is an error and never a fresh start.
func (l *Ledger) load() (*State, error) {
	state := &State{}
	b, err := Dir(l.Options.Dir).Fetch(context.Background(), stateName, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return &State{Format: stateFormat, Repository: l.Options.Root}, nil
	}
	if err == nil {
		state, err = decodeState(b)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read trust state %s (restore it; removing it makes this host trust old versions again): %w",
			filepath.Join(l.Options.Dir, stateName), err)
	}
	if state.Repository != l.Options.Root {
		return nil, fmt.Errorf("cannot use trust state in %s: it is that of repository %s", l.Options.Dir, state.Repository)
	}
	return state, nil
}

func decodeState(b []byte) (*State, error) {
	state := &State{}
	if err := repo.DecodeCanonical(b, state); err != nil {
		return nil, err
	}
	if state.Format != stateFormat {
		return nil, fmt.Errorf("unknown format %d: this program reads %d", state.Format, stateFormat)
	}
	return state, nil
}

// Change alters the trust state and reports whether it did. An error says that
// what was verified is below what was seen before.
type Change func(*State) (bool, error)

// Update makes a change, durable when it returns unless that is deferred.
func (l *Ledger) Update(change Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.Options.Deferred {
		return l.write(change)
	}
	if err := l.begin(); err != nil {
		return err
	}
	_, err := change(l.state)
	if err == nil {
		l.pending = append(l.pending, change)
	}
	return err
}

// begin reads the trust state for changes that are deferred, if it was not read
// since Keep.
func (l *Ledger) begin() (err error) {
	if l.state == nil {
		l.state, err = l.load()
	}
	return err
}

// Current returns the trust state as this ledger sees it now. It is the
// caller's own.
func (l *Ledger) Current() (*State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.Options.Deferred {
		return l.load()
	}
	if err := l.begin(); err != nil {
		return nil, err
	}
	state := *l.state // floors are replaced and never changed
	state.Pins = maps.Clone(state.Pins)
	return &state, nil
}

// Keep records durably what refreshes and lookups have seen since it was last
// called, where that is deferred. Nothing that they admitted may be acted on
// before. It judges once more, and fails if another process has meanwhile seen
// something newer.
func (l *Ledger) Keep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pending := l.pending
	l.state, l.pending = nil, nil
	if len(pending) == 0 {
		return nil
	}
	return l.write(pending...)
}

// write makes changes under a lock that other processes share.
func (l *Ledger) write(changes ...Change) error {
	dir, err := os.Open(l.Options.Dir)
	if err != nil {
		return fmt.Errorf("cannot lock trust state: %w", err)
	}
	defer dir.Close() // releases the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock trust state: %w", err)
	}
	state, err := l.load()
	if err != nil {
		return err
	}
	any := false
	for _, change := range changes {
		changed, err := change(state)
		if err != nil {
			return err
		}
		any = any || changed
	}
	if !any {
		return nil
	}
	b, err := repo.EncodeCanonical(state)
	if err == nil {
		err = l.Options.Disk.WriteFile(filepath.Join(l.Options.Dir, stateName), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot record trust state: %w", err)
	}
	return nil
}

// ResetClock forgets the highest time seen, for an operator whose clock was
// wrong by years. Whoever can make one call it can replay metadata that has
// expired since, down to the versions seen.
func (l *Ledger) ResetClock() error {
	return l.Update(func(s *State) (bool, error) { s.Time = 0; return true, nil })
}
