package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"stork/repo"
)

// How often a tracker is told, whatever it wishes; how soon one is that has
// named nobody, and one that failed; how long it may take.
const (
	minAnnounce     = 15 * time.Second
	maxAnnounce     = time.Hour
	firstRetry      = 2 * time.Second
	maxRetry        = time.Minute
	announceTimeout = 10 * time.Second
	farewellTimeout = 2 * time.Second
)

// announcer tells trackers of one blob, and is told of peers.
type announcer struct {
	swarm    *Swarm
	hash     repo.InfoHash
	trackers []string
	tell     func([]netip.AddrPort)
}

// run announces to the first tracker that answers, until ctx ends.
func (a *announcer) run(ctx context.Context, left func() int64) {
	if len(a.trackers) == 0 {
		return
	}
	event, retry := "started", firstRetry
	for {
		answer, err := a.any(ctx, left(), event)
		wait := retry
		switch {
		case err != nil:
			a.swarm.options.Log.Info("tracker does not answer", "swarm", a.hash, "err", err)
			retry = min(retry*2, maxRetry)
		case len(answer.peers) == 0:
			event, retry, wait = "", firstRetry, minAnnounce
		default:
			event, retry, wait = "", firstRetry, min(max(answer.interval, minAnnounce), maxAnnounce)
			a.tell(answer.peers)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// farewell says that we are gone, or that we stay with all of it.
func (a *announcer) farewell(stays bool) {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	if len(a.trackers) == 0 {
		return
	}
	event, left := "stopped", int64(1)
	if stays {
		event, left = "completed", 0
	}
	if _, err := a.any(ctx, left, event); err != nil {
		a.swarm.options.Log.Debug("tracker not told of the end", "swarm", a.hash, "err", err)
	}
}

// any announces to one tracker after the other, until one answers.
func (a *announcer) any(ctx context.Context, left int64, event string) (trackerAnswer, error) {
	var errs []error
	for _, tracker := range a.trackers {
		answer, err := a.swarm.announce(ctx, tracker, a.hash, left, event)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, err)
	}
	return trackerAnswer{}, errors.Join(errs...)
}

// announce makes one announce (BEP 3, BEP 23).
func (s *Swarm) announce(ctx context.Context, tracker string, hash repo.InfoHash, left int64, event string) (trackerAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	query := url.Values{
		"info_hash": {string(hash[:])}, "peer_id": {s.peerID}, "port": {strconv.Itoa(int(s.Addr().Port()))},
		"uploaded": {"0"}, "downloaded": {"0"}, "left": {strconv.FormatInt(left, 10)}, "compact": {"1"},
	}
	if event != "" {
		query.Set("event", event)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, tracker+"?"+query.Encode(), nil)
	if err != nil {
		return trackerAnswer{}, err
	}
	response, err := s.options.HTTP.Do(request)
	if err != nil {
		// Its text has the whole address, with the nest's token.
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return trackerAnswer{}, fmt.Errorf("cannot announce to %s: %w", request.URL.Host, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return trackerAnswer{}, fmt.Errorf("cannot announce to %s: HTTP status %s", request.URL.Host, response.Status)
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = errAnswer
	}
	var answer trackerAnswer
	if err == nil {
		answer, err = parseAnswer(b)
	}
	if err != nil {
		return trackerAnswer{}, fmt.Errorf("cannot announce to %s: %w", request.URL.Host, err)
	}
	return answer, nil
}
