package tracker

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"stork/repo"
)

// event is what has happened to the announcer.
type event string

// The events of BEP 3, and of BEP 21.
const (
	regular   event = ""
	started   event = "started"
	completed event = "completed"
	stopped   event = "stopped"
	paused    event = "paused"
)

// request is what an announce says. Its address is not among that: it is the
// connection's.
type request struct {
	hash    repo.InfoHash
	port    uint16
	left    uint64 // bytes; 0: it has everything
	event   event
	numWant int
}

// numwant of those who do not say, and the most that anybody is given.
const (
	defaultWant = 50
	maxWant     = 200
)

// parseRequest reads the query of an announce. What a tracker may ignore it
// ignores: clients differ in what they add.
func parseRequest(query string) (request, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return request{}, errors.New("the query can not be read")
	}
	r := request{event: event(values.Get("event"))}
	hash := values.Get("info_hash")
	if len(hash) != len(r.hash) {
		return r, fmt.Errorf("info_hash has %d bytes, not %d", len(hash), len(r.hash))
	}
	copy(r.hash[:], hash)
	if len(values.Get("peer_id")) != len(r.hash) {
		return r, errors.New("there is no peer_id of 20 bytes")
	}
	port, err := strconv.ParseUint(values.Get("port"), 10, 16)
	if err != nil || port == 0 {
		return r, errors.New("there is no port")
	}
	r.port = uint16(port)
	if r.left, err = strconv.ParseUint(values.Get("left"), 10, 64); err != nil {
		return r, errors.New("it does not say how much is left")
	}
	switch r.event {
	case regular, started, completed, stopped, paused:
	default:
		return r, errors.New("unknown event")
	}
	if values.Get("compact") == "0" {
		return r, errors.New("only compact answers are given (BEP 23)")
	}
	r.numWant, err = wanted(values.Get("numwant"))
	return r, err
}

func wanted(s string) (int, error) {
	if s == "" {
		return defaultWant, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("numwant is no number")
	}
	if n < 0 { // what some clients say for "as you like"
		return defaultWant, nil
	}
	return min(n, maxWant), nil
}
