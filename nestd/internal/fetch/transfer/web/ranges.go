package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stork/nestd/internal/fetch/transfer"
)

// Ranges are parts of a file whose content nobody can vouch for: who uses
// them checks what is in them.
type Ranges struct {
	Name   string           // of this method, for ledgers
	Places []string         // addresses of the file, best first
	Ranges []transfer.Range // none empty

	// Write takes what has come of the range with that number, which begins
	// at that byte of it; several goroutines call it. Its error ends everything.
	Write func(number int, at int64, p []byte) error
	Pace  func(ctx context.Context, n int) error // as transfer.Job has it
}

// rangeRequests is how many ranges are asked for at a time: they are small,
// and most of the time goes into waiting for an answer.
const rangeRequests = 8

// Ranges gets all of them, and says which server has sent how much. A place that does not have the file, or does not
// serve ranges, is not asked again; what broke off is gone on with where it
// did. The error is that of Write, or why the last place was given up, as
// [Client.Get] has it.
func (c *Client) Ranges(ctx context.Context, r Ranges) ([]transfer.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &ranges{client: c, Ranges: r}
	for _, place := range r.Places {
		f.sent = append(f.sent, transfer.Entry{Source: transfer.Source{Method: r.Name, Address: hostOf(place)}})
	}
	var workers sync.WaitGroup
	for range min(rangeRequests, len(r.Ranges)) {
		workers.Go(func() {
			for ctx.Err() == nil {
				n := int(f.next.Add(1)) - 1
				if n >= len(r.Ranges) {
					return
				}
				if err := f.one(ctx, n); err != nil {
					f.fail(err)
					cancel()
				}
			}
		})
	}
	workers.Wait()
	if f.err == nil {
		f.err = ctx.Err()
	}
	return slices.DeleteFunc(f.sent, func(e transfer.Entry) bool { return e.Received == 0 }), f.err
}

// ranges is the work on all of them.
type ranges struct {
	Ranges
	client *Client
	next   atomic.Int64 // the range that nobody has begun

	mu    sync.Mutex
	gone  int // so many places at the beginning are not asked any more
	tries int // that brought nothing, in a row, of the first that is
	err   error
	sent  []transfer.Entry // by place
}

func (f *ranges) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// one brings one range, from one place after another.
func (f *ranges) one(ctx context.Context, number int) error {
	var last error
	for at := int64(0); at < f.Ranges.Ranges[number].Len(); {
		place, ok := f.place()
		if !ok {
			if last == nil {
				last = errNowhere
			}
			return last
		}
		n, err := f.request(ctx, f.Places[place], number, at)
		at += n
		f.took(place, n)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || errors.As(err, new(*transfer.SpoolError)) {
			return err
		}
		last = err
		if pause := f.judge(place, n, err); pause > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
	}
	return nil
}

// took counts what a place has sent.
func (f *ranges) took(place int, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent[place].Received += n
	f.sent[place].Used += n
}

// place returns the number of the place to ask now.
func (f *ranges) place() (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone, f.gone < len(f.Places)
}

// judge notes a failure of a place, and says how long to wait before the next
// request.
func (f *ranges) judge(place int, gained int64, err error) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if place < f.gone {
		return 0 // it is given up already
	}
	if gained >= f.client.tuning.MinBytes {
		f.tries = 0
	}
	f.tries++
	if !temporary(err) || f.tries >= f.client.tuning.Tries*rangeRequests {
		f.gone, f.tries = place+1, 0
		return 0
	}
	var busy *BusyError
	if errors.As(err, &busy) && busy.After > 0 {
		return min(busy.After, maxRest)
	}
	return pause(f.client.tuning.Backoff, 1+f.tries/rangeRequests)
}

// request asks once for a range from a byte of it on, and returns how much has
// come.
func (f *ranges) request(ctx context.Context, address string, number int, at int64) (n int64, err error) {
	r := f.Ranges.Ranges[number]
	r.From += at
	ctx, watch := f.client.Watch(ctx)
	defer watch.Stop()
	header := http.Header{"Accept-Encoding": {"identity"}, "Range": {fmt.Sprintf("bytes=%d-%d", r.From, r.To-1)}}
	answer, err := f.client.Get(ctx, address, header)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	want := fmt.Sprintf("bytes %d-%d/", r.From, r.To-1)
	if answer.StatusCode != http.StatusPartialContent || !strings.HasPrefix(answer.Header.Get("Content-Range"), want) {
		return 0, &PermanentError{fmt.Sprintf("%s with range %q instead of %q", answer.Status, answer.Header.Get("Content-Range"), want)}
	}
	if length := answer.ContentLength; length >= 0 && length != r.Len() {
		return 0, &PermanentError{fmt.Sprintf("206 with %d bytes for a range of %d", length, r.Len())}
	}
	n, err = f.copy(ctx, watch, answer.Body, r.Len(), func(gained int64, p []byte) error { return f.Write(number, at+gained, p) })
	return n, Cause(ctx, err)
}

// copy reads an answer of size bytes, and looks for its end only once all of
// them are there: then the connection can be used again.
func (f *ranges) copy(
	ctx context.Context, watch *Watch, answer io.Reader, size int64, write func(at int64, p []byte) error,
) (n int64, err error) {
	body, buffer := watch.Reader(answer), make([]byte, min(size, bufferSize))
	for n < size {
		m, err := body.Read(buffer[:min(size-n, int64(len(buffer)))])
		if m > 0 {
			if err := write(n, buffer[:m]); err != nil {
				return n, &transfer.SpoolError{Err: err}
			}
			n += int64(m)
			if err := watch.Hold(func() error { return f.Pace(ctx, m) }); err != nil {
				return n, err
			}
		}
		switch {
		case n == size:
		case errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		case err != nil:
			return n, err
		}
	}
	_, _ = body.Read(buffer[:1]) // nothing, by the length that was checked
	return n, nil
}
