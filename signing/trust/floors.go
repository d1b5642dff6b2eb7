package trust

import (
	"maps"
	"slices"
	"time"

	"stork/repo"
)

// Pin names an identity for ever: a role, and the SHA-256 of version 1 of its
// key document.
type Pin struct {
	Role   repo.Role   `json:"role"`
	Digest repo.Digest `json:"digest"`
}

// TimeStep is how far the recorded time may lag behind the highest time seen,
// so that a refresh that learns nothing writes nothing.
const TimeStep = 10 * time.Minute

// State is what a client must never forget: how far it has come. It is
// one file, so that a crash leaves one truth.
type State struct {
	Floors     Floors                   `json:"floors"`
	Format     int                      `json:"format"`
	Memo       *Memo                    `json:"memo,omitempty"`
	Pins       map[repo.Digest]PinFloor `json:"pins,omitempty"` // by the pin's digest
	Repository repo.Digest              `json:"repository"`
	Time       int64                    `json:"time"` // highest time seen, seconds since the epoch
}

// Floors are the versions below which the repository's own roles
// are refused. Those but Root are forgotten when a root replaces all
// timestamp and snapshot keys: that is how a repository recovers when stolen
// keys have signed absurdly high versions (TUF specification, 5.3.11).
type Floors struct {
	Root          int64            `json:"root"`
	RootDigest    repo.Digest      `json:"root_digest"` // of root.json beside the trust state
	Snapshot      int64            `json:"snapshot"`
	SnapshotKeys  []string         `json:"snapshot_keys,omitempty"`
	Timestamp     int64            `json:"timestamp"`
	TimestampKeys []string         `json:"timestamp_keys,omitempty"`
	Versions      map[string]int64 `json:"versions,omitempty"` // of every file in the snapshot
}

// PinFloor is how far the owner of a pin has come. No key of the repository
// can lower it.
type PinFloor struct {
	Document int64       `json:"document"` // version of the newest key document
	Newest   repo.Digest `json:"newest"`   // its digest
	Reset    int64       `json:"reset"`    // its reset counter
	Version  int64       `json:"version"`  // of the role
}

// rotated reports whether f's root has replaced all the online keys that s
// knew.
func (s *Floors) rotated(f Floors) bool {
	shared := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(id string) bool { return slices.Contains(b, id) })
	}
	return f.Root > s.Root && !shared(s.TimestampKeys, f.TimestampKeys) && !shared(s.SnapshotKeys, f.SnapshotKeys)
}

// CheckTimestamp refuses a timestamp, or a snapshot that it names, that is
// older than what was seen.
func (s *Floors) CheckTimestamp(f Floors) error {
	switch {
	case s.rotated(f):
		return nil
	case f.Timestamp < s.Timestamp:
		return Untrusted("timestamp version %d was seen here, this is %d", s.Timestamp, f.Timestamp)
	case f.Snapshot < s.Snapshot:
		return Untrusted("snapshot version %d was seen here, this names %d", s.Snapshot, f.Snapshot)
	}
	return nil
}

// CheckSnapshot refuses a snapshot that lacks or has an older version of what
// was seen.
func (s *Floors) CheckSnapshot(f Floors) error {
	if s.rotated(f) {
		return nil
	}
	for name, seen := range s.Versions {
		got, ok := f.Versions[name]
		if !ok {
			return Untrusted("version %d of %s was seen here, the snapshot lacks it", seen, name)
		}
		if got < seen {
			return Untrusted("version %d of %s was seen here, the snapshot has %d", seen, name, got)
		}
	}
	return nil
}

// Raise lifts the repository's floors.
func (s *State) Raise(f Floors) bool {
	if !s.Floors.raise(f) {
		return false
	}
	s.Memo = nil
	return true
}

// raise lifts the floors to f and reports whether that changed anything. If
// another process has meanwhile come further, its floors stay.
func (s *Floors) raise(f Floors) bool {
	if f.Root < s.Root || !s.rotated(f) && f.Timestamp < s.Timestamp {
		return false
	}
	same := f.Root == s.Root && f.RootDigest == s.RootDigest && f.Timestamp == s.Timestamp && f.Snapshot == s.Snapshot &&
		slices.Equal(f.TimestampKeys, s.TimestampKeys) && slices.Equal(f.SnapshotKeys, s.SnapshotKeys) &&
		maps.Equal(f.Versions, s.Versions)
	*s = f
	return !same
}

// SawTime records the time, and reports whether it has come so far since that
// this changed anything.
func (s *State) SawTime(now time.Time) bool {
	if now.Unix() < s.Time+int64(TimeStep/time.Second) {
		return false
	}
	s.Time = now.Unix()
	return true
}

// PinSeen is what was verified of the role that a pin names.
type PinSeen struct {
	Role      repo.Role
	Documents []repo.Digest // of its key documents, from version 1
	Reset     int64         // the newest one's reset counter
	Version   int64         // the role's
}

// Check refuses to go below the floor.
func (p PinFloor) Check(seen PinSeen) error {
	if p.Document == 0 {
		return nil
	}
	newest := int64(len(seen.Documents))
	if newest < p.Document {
		return Untrusted("key document %d of %s was seen here, this is %d", p.Document, seen.Role, newest)
	}
	if seen.Documents[p.Document-1] != p.Newest {
		return Untrusted("key document %d of %s is not the one seen before", p.Document, seen.Role)
	}
	if seen.Reset == p.Reset && seen.Version < p.Version {
		return Untrusted("version %d of %s was seen here, this is %d", p.Version, seen.Role, seen.Version)
	}
	return nil
}

// RaisePin lifts the floor of a pin and reports whether that changed
// anything.
func (s *State) RaisePin(pin repo.Digest, seen PinSeen) bool {
	newest := len(seen.Documents)
	next := PinFloor{Document: int64(newest), Newest: seen.Documents[newest-1], Reset: seen.Reset, Version: seen.Version}
	if s.Pins[pin] == next || s.Pins[pin].Check(seen) != nil {
		return false
	}
	if s.Pins == nil {
		s.Pins = map[repo.Digest]PinFloor{}
	}
	s.Pins[pin] = next
	s.Memo = nil
	return true
}
