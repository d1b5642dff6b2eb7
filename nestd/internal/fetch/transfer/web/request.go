package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"stork/nestd/internal/fetch/transfer"
)

// The bounds of what is asked for in one request of several, in bytes: little
// enough that all connections end at about the same time, and much enough
// that asking costs nothing.
const (
	minShare = 1 << 20
	maxShare = 64 << 20
)

// share is how much one request asks for.
func (f *fetch) share() int64 {
	size := f.job.Object.Size
	if size < f.method.options.Large {
		return size
	}
	return min(max(size/int64(4*f.method.options.Connections), minShare), maxShare)
}

// request brings the next range from a server.
func (f *fetch) request(ctx context.Context, s *server) outcome {
	f.mu.Lock()
	whole := s.whole
	f.mu.Unlock()
	if whole {
		return f.requestWhole(ctx, s)
	}
	claim, err := f.job.Blob.Claim(ctx, s.source, f.share())
	if claim == nil {
		return outcome{err: err}
	}
	defer claim.Release()
	r := claim.Range()
	header := http.Header{"Accept-Encoding": {"identity"}}
	if r.Len() < f.job.Object.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.From, r.To-1))
	}
	ctx, watch := f.method.options.Client.Watch(ctx)
	defer watch.Stop()
	answer, err := f.method.options.Client.Get(ctx, s.address, header)
	f.first.Do(func() { close(f.answered) })
	if err != nil {
		return outcome{err: err}
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		if r.Len() < f.job.Object.Size {
			claim.Release()
			return f.noRanges(ctx, s, answer, watch)
		}
		err = f.checkLength(answer)
	case http.StatusPartialContent:
		err = checkRange(answer, r, f.job.Object.Size)
	default:
		err = unexpected(answer)
	}
	if err != nil {
		return f.blamed(s, err)
	}
	return f.copy(ctx, s, watch, answer.Body, r.Len(), func(p []byte) error {
		_, err := claim.Write(p)
		return err
	})
}

// blamed bans a server whose lie needs no hash to see.
func (f *fetch) blamed(s *server, err error) outcome {
	if errors.Is(err, transfer.ErrMismatch) {
		if dropErr := f.job.Blob.Blame(s.source); dropErr != nil {
			err = dropErr
		}
	}
	return outcome{err: err}
}

// unexpected says what a status means that no correct server sends here.
func unexpected(answer *http.Response) error {
	if answer.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Errorf("%w: the server's file is shorter", transfer.ErrMismatch)
	}
	return &PermanentError{answer.Status}
}

// checkLength refuses a file of another size before a byte of it is read.
func (f *fetch) checkLength(answer *http.Response) error {
	if n, size := answer.ContentLength, f.job.Object.Size; n >= 0 && n != size {
		return fmt.Errorf("%w: the server says %d bytes, the record %d", transfer.ErrMismatch, n, size)
	}
	return nil
}

// checkRange wants exactly what was asked for.
func checkRange(answer *http.Response, r transfer.Range, size int64) error {
	want := fmt.Sprintf("bytes %d-%d/%d", r.From, r.To-1, size)
	if got := answer.Header.Get("Content-Range"); got != want {
		return &PermanentError{fmt.Sprintf("206 with range %q instead of %q", got, want)}
	}
	if n := answer.ContentLength; n >= 0 && n != r.Len() {
		return &PermanentError{fmt.Sprintf("206 with %d bytes for a range of %d", n, r.Len())}
	}
	return nil
}

// noRanges goes on with a server that sends everything whatever is asked for,
// unless another connection does so already.
func (f *fetch) noRanges(ctx context.Context, s *server, answer *http.Response, watch *Watch) outcome {
	f.mu.Lock()
	first := !s.whole
	s.whole = true
	f.mu.Unlock()
	if !first {
		return outcome{}
	}
	return f.copyWhole(ctx, s, answer, watch)
}

// requestWhole gets everything from a server without ranges, as often as it
// takes.
func (f *fetch) requestWhole(ctx context.Context, s *server) outcome {
	ctx, watch := f.method.options.Client.Watch(ctx)
	defer watch.Stop()
	answer, err := f.method.options.Client.Get(ctx, s.address, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return outcome{err: err}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return f.blamed(s, unexpected(answer))
	}
	return f.copyWhole(ctx, s, answer, watch)
}

func (f *fetch) copyWhole(ctx context.Context, s *server, answer *http.Response, watch *Watch) outcome {
	if err := f.checkLength(answer); err != nil {
		return f.blamed(s, err)
	}
	at := int64(0)
	return f.copy(ctx, s, watch, answer.Body, f.job.Object.Size, func(p []byte) error {
		err := f.job.Blob.WriteAt(s.source, p, at)
		at += int64(len(p))
		return err
	})
}

// copy reads an answer of n bytes, and looks for its end only once all of them
// are there: then the connection can be used again.
func (f *fetch) copy(
	ctx context.Context, s *server, watch *Watch, answer io.Reader, n int64, write func([]byte) error,
) (o outcome) {
	body := watch.Reader(answer)
	buffer := f.method.buffers.Get().(*[bufferSize]byte)
	defer f.method.buffers.Put(buffer)
	for {
		m, err := body.Read(buffer[:])
		if int64(m) > n-o.gained {
			return f.blamed(s, fmt.Errorf("%w: the server sends more than was asked for", transfer.ErrMismatch))
		}
		if m > 0 {
			o.gained += int64(m)
			if err := write(buffer[:m]); errors.Is(err, transfer.ErrTaken) {
				return o
			} else if err != nil {
				return outcome{err: err, gained: o.gained}
			}
			if err := watch.Hold(func() error { return f.job.Pace(ctx, m) }); err != nil {
				return outcome{err: Cause(ctx, err), gained: o.gained}
			}
		}
		switch {
		case errors.Is(err, io.EOF) && o.gained == n:
			return o
		case errors.Is(err, io.EOF):
			return outcome{err: io.ErrUnexpectedEOF, gained: o.gained}
		case err != nil:
			return outcome{err: Cause(ctx, err), gained: o.gained}
		}
	}
}
