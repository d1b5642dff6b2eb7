package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"stork/repo"
)

// Memo is what a verified set of files led to, for one who is shown the same
// set again: verifying it again would lead to the same, until the first of the
// files expires. It lies in the trust state, and any floor that rises makes it
// void, so that it never admits what the floors would not.
type Memo struct {
	Files repo.Digest     `json:"files"` // of the set, in the caller's own way
	Until int64           `json:"until"` // the earliest expiry among them, seconds since the epoch
	Value json.RawMessage `json:"value"` // canonical JSON; the caller's
}

// maxMemo is how large, in bytes, a value may be that is remembered.
const maxMemo = 256 << 10

// Recall returns the memo, nil if there is none that holds now. The caller
// finds out whether the files are still the same, and then calls Seen.
func (l *Ledger) Recall() (*Memo, error) {
	state, err := l.Current()
	if err != nil || state.Memo == nil {
		return nil, err
	}
	judged := max(l.Now().Unix(), state.Time)
	if CheckExpiry("memo", time.Unix(state.Memo.Until, 0), time.Unix(judged, 0)) != nil {
		return nil, nil
	}
	return state.Memo, nil
}

// Seen records the time, as a refresh does.
func (l *Ledger) Seen() error {
	now := l.Now()
	state, err := l.Current()
	if err != nil || !state.SawTime(now) {
		return err
	}
	return l.Update(func(s *State) (bool, error) { return s.SawTime(now), nil })
}

// Remember records what the refreshes and lookups since the last Keep led to.
// It is void if another process has seen something else meanwhile. A value that
// is too large is not remembered.
func (l *Ledger) Remember(m Memo) error {
	if !l.Deferred {
		return errors.New("cannot remember what was verified: others may have seen more since")
	}
	if len(m.Value) > maxMemo {
		return nil
	}
	verified, err := l.Current()
	if err != nil {
		return fmt.Errorf("cannot remember what was verified: %w", err)
	}
	return l.Update(func(s *State) (bool, error) {
		if !reflect.DeepEqual(s.Floors, verified.Floors) || !maps.Equal(s.Pins, verified.Pins) || reflect.DeepEqual(s.Memo, &m) {
			return false, nil
		}
		s.Memo = &m
		return true, nil
	})
}
