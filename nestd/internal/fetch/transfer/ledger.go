package transfer

import (
	"cmp"
	"slices"
	"strconv"
)

// Entry is what one source did for a blob, in bytes.
type Entry struct {
	Source
	Received int64 `json:"received"`          // over the network
	Used     int64 `json:"used"`              // of these, what is in the blob
	Dropped  int64 `json:"dropped,omitempty"` // of these, what turned out to be damaged
	Verdict  int   `json:"verdict,omitempty"` // points; at [banned] the source is asked no more
}

// String says in words what the source did.
func (e Entry) String() string {
	text := e.Method
	if e.Address != "" {
		text += " " + e.Address
	}
	text += ": " + strconv.FormatInt(e.Used, 10)
	if e.Received != e.Used {
		text += " of " + strconv.FormatInt(e.Received, 10)
	}
	if e.Verdict >= banned {
		text += ", banned"
	}
	return text
}

// tally is an Entry that grows.
type tally struct {
	Entry
	spooled bool // it is what was there already, nobody's fault
}

// Points of blame. Whoever sent all of a damaged range is banned at once; who
// sent part of one may be innocent.
const (
	suspicion = 1
	banned    = 3
)

// maxSources bounds the ledger of one blob, whatever peers come and go: all
// others of a method are counted together.
const maxSources = 256

// ledger is who sent what of one blob.
type ledger map[Source]*tally

func (l ledger) of(s Source) *tally {
	t := l[s]
	if t == nil && len(l) >= maxSources {
		s.Address = ""
		t = l[s]
	}
	if t == nil {
		t = &tally{Entry: Entry{Source: s}}
		l[s] = t
	}
	return t
}

// blame judges those who sent a damaged range.
func (l ledger) blame(damaged spans) {
	senders := map[*tally]bool{}
	for _, at := range damaged {
		at.from.Used -= at.Len()
		at.from.Dropped += at.Len()
		senders[at.from] = true
	}
	for t := range senders {
		switch {
		case t.spooled:
		case len(senders) == 1:
			t.Verdict = banned
		default:
			t.Verdict = min(t.Verdict+suspicion, banned)
		}
	}
}

// entries returns who did anything, in order of what is used.
func (l ledger) entries() []Entry {
	entries := []Entry{}
	for _, t := range l {
		if !t.spooled && (t.Received > 0 || t.Verdict > 0) {
			entries = append(entries, t.Entry)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Address, b.Address))
	})
	return entries
}
