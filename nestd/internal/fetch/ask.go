package fetch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// childTries is how often one request is given to a child: each failure but
// the last is a child that died with it.
const childTries = 4

// Get reads the small file at path below baseURL, of at most max bytes. The
// error wraps fs.ErrNotExist if the server says that there is none, else
// ErrUnreachable or ErrTooLarge. A file that the server says is unchanged is
// not transferred again.
func (f *Fetcher) Get(ctx context.Context, baseURL, path string, max int64) ([]byte, error) {
	address := join(baseURL, path)
	old, tag := f.tags.get(address)
	var b []byte
	err := f.ask(ctx, getRoute, getRequest{URL: address, Max: max, ETag: tag}, func(answer *http.Response) (err error) {
		switch answer.StatusCode {
		case http.StatusOK:
			b, err = io.ReadAll(io.LimitReader(answer.Body, max+1))
			if err == nil && int64(len(b)) > max {
				return ErrTooLarge
			}
			if err == nil {
				f.tags.put(address, answer.Header.Get("ETag"), b)
			}
			return err
		case http.StatusNotModified:
			b = bytes.Clone(old)
			return nil
		case http.StatusNotFound:
			return fs.ErrNotExist
		case http.StatusRequestEntityTooLarge:
			return ErrTooLarge
		}
		return fmt.Errorf("%w: %s", ErrUnreachable, message(answer.Body))
	})
	if err == nil && int64(len(b)) > max {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	return b, nil
}

// Stream reads a zstd stream at path below baseURL and hands what is in it,
// at most max bytes, to read, decompressed by the child. It is not tried
// again when it breaks off: read sees an error. Other errors are those of Get.
func (f *Fetcher) Stream(ctx context.Context, baseURL, path string, max int64, read func(io.Reader) error) error {
	address := join(baseURL, path)
	body, err := json.Marshal(getRequest{URL: address, Max: max, Zstd: true})
	if err != nil {
		return fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	err = f.askOnce(ctx, getRoute, body, func(answer *http.Response) error {
		switch answer.StatusCode {
		case http.StatusOK:
			return read(io.LimitReader(answer.Body, max))
		case http.StatusNotFound:
			return fs.ErrNotExist
		}
		return fmt.Errorf("%w: %s", ErrUnreachable, message(answer.Body))
	})
	if err != nil {
		return fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	return nil
}

// Request names a blob.
type Request struct {
	BaseURL  string
	Path     string
	Object   repo.Object
	Progress func(done, total int64) // bytes; may be nil; called ten times a second at most
}

// Blob brings a blob into the spool and opens it there, at its beginning.
// What an earlier try has left is gone on with. The child has checked the
// digest, but whoever reads the file must check it again, for the child can
// still write to it. fetched is the number of bytes that came over the
// network, also when there is an error, which wraps fs.ErrNotExist,
// ErrUnreachable, ErrMismatch or ErrNoSpace. When done with the blob, close
// the file and call [Fetcher.Discard].
func (f *Fetcher) Blob(ctx context.Context, r Request) (file *os.File, fetched int64, err error) {
	address := join(r.BaseURL, r.Path)
	err = f.ask(ctx, blobRoute, blobRequest{URL: address, Object: r.Object}, func(answer *http.Response) error {
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the fetcher refuses: %s", message(answer.Body))
		}
		last, err := follow(answer.Body, r)
		fetched += min(max(last.Fetched, 0), 2*r.Object.Size)
		if err != nil {
			return err
		}
		return last.err()
	})
	if err == nil {
		file, err = f.openSpooled(r.Object.Digest.Hex(), r.Object.Size)
	}
	if err != nil {
		return nil, fetched, fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	return file, fetched, nil
}

// Discard removes a blob from the spool.
func (f *Fetcher) Discard(o repo.Object) error {
	err := unix.Unlinkat(int(f.spool.Fd()), o.Digest.Hex(), 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove blob %s from the spool: %w", o.Digest, err)
	}
	return nil
}

// follow reads events until the last one.
func follow(body io.Reader, r Request) (blobEvent, error) {
	var event blobEvent
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var next blobEvent
		if err := repo.DecodeStrict(lines.Bytes(), &next); err != nil {
			return event, err
		}
		event = next
		if r.Progress != nil {
			r.Progress(min(max(event.Done, 0), r.Object.Size), r.Object.Size)
		}
		if event.Result != "" {
			return event, nil
		}
	}
	if err := lines.Err(); err != nil {
		return event, &childError{err}
	}
	return event, &childError{io.ErrUnexpectedEOF}
}

func (e blobEvent) err() error {
	switch e.Result {
	case resultOK:
		return nil
	case resultAbsent:
		return fs.ErrNotExist
	case resultMismatch:
		return fmt.Errorf("%w: %s", ErrMismatch, e.Message)
	case resultNoSpace:
		return fmt.Errorf("%w: %s", ErrNoSpace, e.Message)
	case resultUnreachable:
		return fmt.Errorf("%w: %s", ErrUnreachable, e.Message)
	}
	return fmt.Errorf("the fetcher failed: %s", e.Message)
}

// childError says that the child broke off, not the server.
type childError struct{ err error }

func (e *childError) Error() string { return "the fetcher broke off: " + e.err.Error() }
func (e *childError) Unwrap() error { return e.err }

// ask gives a request to the child, and to the next child if that one dies
// with it.
func (f *Fetcher) ask(ctx context.Context, route string, request any, handle func(*http.Response) error) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := f.askOnce(ctx, route, body, handle)
		var broken *childError
		if !errors.As(err, &broken) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if try == childTries {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		f.options.Log.Warn("fetcher broke off", "err", err)
		if err := pause(ctx, 100*time.Millisecond, try); err != nil {
			return err
		}
	}
}

func (f *Fetcher) askOnce(ctx context.Context, route string, body []byte, handle func(*http.Response) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://fetcher"+route, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := f.http.Do(request)
	if err != nil {
		return &childError{err}
	}
	defer drain(answer.Body)
	err = handle(answer)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
		return &childError{err}
	}
	return err
}

// message reads what the child says, bounded and on one line.
func message(r io.Reader) string {
	b, err := io.ReadAll(io.LimitReader(r, 1024))
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func join(base, path string) string {
	return strings.TrimSuffix(base, "/") + "/" + path
}
