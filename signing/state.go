package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

const (
	stateFormat = 1
	stateName   = "trust.json"
	maxState    = 64 << 20
	// timeStep is how far the recorded time may lag behind the highest time
	// seen, so that a refresh that learns nothing writes nothing.
	timeStep = 10 * time.Minute
)

// trustState is what a client must never forget: how far it has come. It is
// one file, so that a crash leaves one truth.
type trustState struct {
	Floors     repositoryFloors         `json:"floors"`
	Format     int                      `json:"format"`
	Memo       *Memo                    `json:"memo,omitempty"`
	Pins       map[repo.Digest]pinFloor `json:"pins,omitempty"` // by the pin's digest
	Repository repo.Digest              `json:"repository"`
	Time       int64                    `json:"time"` // highest time seen, seconds since the epoch
}

// repositoryFloors are the versions below which the repository's own roles
// are refused. Those but Root are forgotten when a root replaces all
// timestamp and snapshot keys: that is how a repository recovers when stolen
// keys have signed absurdly high versions (TUF specification, 5.3.11).
type repositoryFloors struct {
	Root          int64            `json:"root"`
	RootDigest    repo.Digest      `json:"root_digest"` // of root.json beside the trust state
	Snapshot      int64            `json:"snapshot"`
	SnapshotKeys  []string         `json:"snapshot_keys,omitempty"`
	Timestamp     int64            `json:"timestamp"`
	TimestampKeys []string         `json:"timestamp_keys,omitempty"`
	Versions      map[string]int64 `json:"versions,omitempty"` // of every file in the snapshot
}

// pinFloor is how far the owner of a pin has come. No key of the repository
// can lower it.
type pinFloor struct {
	Document int64       `json:"document"` // version of the newest key document
	Newest   repo.Digest `json:"newest"`   // its digest
	Reset    int64       `json:"reset"`    // its reset counter
	Version  int64       `json:"version"`  // of the role
}

// rotated reports whether f's root has replaced all the online keys that s
// knew.
func (s *repositoryFloors) rotated(f repositoryFloors) bool {
	shared := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(id string) bool { return slices.Contains(b, id) })
	}
	return f.Root > s.Root && !shared(s.TimestampKeys, f.TimestampKeys) && !shared(s.SnapshotKeys, f.SnapshotKeys)
}

func (s *repositoryFloors) checkTimestamp(f repositoryFloors) error {
	switch {
	case s.rotated(f):
		return nil
	case f.Timestamp < s.Timestamp:
		return untrusted("timestamp version %d was seen here, this is %d", s.Timestamp, f.Timestamp)
	case f.Snapshot < s.Snapshot:
		return untrusted("snapshot version %d was seen here, this names %d", s.Snapshot, f.Snapshot)
	}
	return nil
}

func (s *repositoryFloors) checkSnapshot(f repositoryFloors) error {
	if s.rotated(f) {
		return nil
	}
	for name, seen := range s.Versions {
		got, ok := f.Versions[name]
		if !ok {
			return untrusted("version %d of %s was seen here, the snapshot lacks it", seen, name)
		}
		if got < seen {
			return untrusted("version %d of %s was seen here, the snapshot has %d", seen, name, got)
		}
	}
	return nil
}

// raise lifts the repository's floors.
func (s *trustState) raise(f repositoryFloors) bool {
	if !s.Floors.raise(f) {
		return false
	}
	s.Memo = nil
	return true
}

// raise lifts the floors to f and reports whether that changed anything. If
// another process has meanwhile come further, its floors stay.
func (s *repositoryFloors) raise(f repositoryFloors) bool {
	if f.Root < s.Root || !s.rotated(f) && f.Timestamp < s.Timestamp {
		return false
	}
	same := f.Root == s.Root && f.RootDigest == s.RootDigest && f.Timestamp == s.Timestamp && f.Snapshot == s.Snapshot &&
		slices.Equal(f.TimestampKeys, s.TimestampKeys) && slices.Equal(f.SnapshotKeys, s.SnapshotKeys) &&
		maps.Equal(f.Versions, s.Versions)
	*s = f
	return !same
}

func (s *trustState) sawTime(now time.Time) bool {
	if now.Unix() < s.Time+int64(timeStep/time.Second) {
		return false
	}
	s.Time = now.Unix()
	return true
}

// check refuses to go below the floor.
func (p pinFloor) check(chain []*KeyDocument, version int64) error {
	newest := chain[len(chain)-1]
	if p.Document == 0 {
		return nil
	}
	if newest.Version < p.Document {
		return untrusted("key document %d of %s was seen here, this is %d", p.Document, newest.Role, newest.Version)
	}
	if chain[p.Document-1].Digest != p.Newest {
		return untrusted("key document %d of %s is not the one seen before", p.Document, newest.Role)
	}
	if newest.Reset == p.Reset && version < p.Version {
		return untrusted("version %d of %s was seen here, this is %d", p.Version, newest.Role, version)
	}
	return nil
}

// raisePin lifts the floor of a pin and reports whether that changed
// anything.
func (s *trustState) raisePin(pin repo.Digest, chain []*KeyDocument, version int64) bool {
	newest := chain[len(chain)-1]
	next := pinFloor{Document: newest.Version, Newest: newest.Digest, Reset: newest.Reset, Version: version}
	if s.Pins[pin] == next || s.Pins[pin].check(chain, version) != nil {
		return false
	}
	if s.Pins == nil {
		s.Pins = map[repo.Digest]pinFloor{}
	}
	s.Pins[pin] = next
	s.Memo = nil
	return true
}

// loadState reads the trust state. It can not be made good from the
// repository, so damage is an error and never a fresh start.
func (c *Client) loadState() (*trustState, error) {
	state := &trustState{}
	b, err := Dir(c.opts.Dir).Fetch(context.Background(), stateName, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return &trustState{Format: stateFormat, Repository: c.opts.Root}, nil
	}
	if err == nil {
		state, err = decodeState(b)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read trust state %s (restore it; removing it makes this host trust old versions again): %w",
			filepath.Join(c.opts.Dir, stateName), err)
	}
	if state.Repository != c.opts.Root {
		return nil, fmt.Errorf("cannot use trust state in %s: it is that of repository %s", c.opts.Dir, state.Repository)
	}
	return state, nil
}

func decodeState(b []byte) (*trustState, error) {
	state := &trustState{}
	if err := repo.DecodeCanonical(b, state); err != nil {
		return nil, err
	}
	if state.Format != stateFormat {
		return nil, fmt.Errorf("unknown format %d: this program reads %d", state.Format, stateFormat)
	}
	return state, nil
}

// change alters the trust state and reports whether it did. An error says that
// what was verified is below what was seen before.
type change func(*trustState) (bool, error)

// update makes a change, durable when it returns unless that is deferred.
func (c *Client) update(change change) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opts.Deferred {
		return c.write(change)
	}
	if err := c.begin(); err != nil {
		return err
	}
	_, err := change(c.state)
	if err == nil {
		c.pending = append(c.pending, change)
	}
	return err
}

// begin reads the trust state for changes that are deferred, if it was not read
// since Keep.
func (c *Client) begin() (err error) {
	if c.state == nil {
		c.state, err = c.loadState()
	}
	return err
}

// current returns the trust state as this client sees it now. It is the
// caller's own.
func (c *Client) current() (*trustState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opts.Deferred {
		return c.loadState()
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	state := *c.state // floors are replaced and never changed
	state.Pins = maps.Clone(state.Pins)
	return &state, nil
}

// Keep records durably what refreshes and lookups have seen since it was last
// called, where that is deferred. Nothing that they admitted may be acted on
// before. It judges once more, and fails if another process has meanwhile seen
// something newer.
func (c *Client) Keep() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := c.pending
	c.state, c.pending = nil, nil
	if len(pending) == 0 {
		return nil
	}
	return c.write(pending...)
}

// write makes changes under a lock that other processes share.
func (c *Client) write(changes ...change) error {
	dir, err := os.Open(c.opts.Dir)
	if err != nil {
		return fmt.Errorf("cannot lock trust state: %w", err)
	}
	defer dir.Close() // releases the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock trust state: %w", err)
	}
	state, err := c.loadState()
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
		err = c.opts.Disk.WriteFile(filepath.Join(c.opts.Dir, stateName), b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot record trust state: %w", err)
	}
	return nil
}

// ResetClock forgets the highest time seen, for an operator whose clock was
// wrong by years. Whoever can make one call it can replay metadata that has
// expired since, down to the versions seen.
func (c *Client) ResetClock() error {
	return c.update(func(s *trustState) (bool, error) { s.Time = 0; return true, nil })
}
