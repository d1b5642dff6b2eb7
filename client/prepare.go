package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"stork/nestd/api"
	"stork/repo"
)

// maxEvent bounds one line of the answer to prepare, in bytes: the private
// files of a very large package.
const maxEvent = 64 << 20

// Prepare has the nest make the packages' layers ready and returns what it
// says of each, in the order in which they became ready. onEvent, if not nil,
// sees every event as it comes. Cancelling ctx does not undo what others wait
// for.
func (n *Nest) Prepare(ctx context.Context, request api.PrepareRequest, onEvent func(api.Event)) ([]api.Prepared, error) {
	answer, err := n.caller.open(ctx, http.MethodPost, api.PrepareRoute, request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	wanted := map[repo.Digest]bool{}
	for _, ref := range request.Packages {
		wanted[ref.ID] = true
	}
	var prepared []api.Prepared
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	for len(wanted) > 0 && lines.Scan() {
		event, err := decodeEvent(lines.Bytes())
		if err != nil {
			return nil, err
		}
		if onEvent != nil {
			onEvent(event)
		}
		if event.Error != nil {
			return nil, event.Error
		}
		if event.Prepared != nil && wanted[event.Prepared.ID] {
			delete(wanted, event.Prepared.ID)
			prepared = append(prepared, *event.Prepared)
		}
	}
	if len(wanted) == 0 {
		lines.Scan() // to the end, so that the connection serves on
		return prepared, nil
	}
	return prepared, n.streamEnd(ctx, lines.Err(), len(wanted))
}

// streamEnd judges how a stream of events ended: a nest that is killed leaves
// it without the last line.
func (n *Nest) streamEnd(ctx context.Context, err error, missing int) error {
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("cannot read the nest's answer: %w", errTooLarge)
	case err != nil:
		return n.caller.transportError(ctx, err)
	case missing > 0:
		return n.caller.transportError(ctx, io.ErrUnexpectedEOF)
	}
	return nil
}

// decodeEvent reads one line, of which exactly one part is set.
func decodeEvent(line []byte) (api.Event, error) {
	var event api.Event
	if err := repo.DecodeStrict(bytes.TrimSpace(line), &event); err != nil {
		return event, fmt.Errorf("cannot read the nest's answer: %w", err)
	}
	set := 0
	for _, is := range []bool{event.Error != nil, event.Prepared != nil, event.Progress != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return event, errors.New("cannot read the nest's answer: an event says not exactly one thing")
	}
	return event, nil
}
