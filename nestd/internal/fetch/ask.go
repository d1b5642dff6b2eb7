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
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// childTries is how often one request is given to a child: each failure but
// the last is a child that died with it.
const childTries = 4

// childTriesWithProgress is how often a blob is, when each child brought
// something of it.
const childTriesWithProgress = 200

// Get reads the small file at path below baseURL, of at most max bytes. The
// error wraps fs.ErrNotExist if the server says that there is none, else
// ErrUnreachable or ErrTooLarge. A file that the server says is unchanged is
// not transferred again.
func (f *Fetcher) Get(ctx context.Context, baseURL, path string, max int64) ([]byte, error) {
	address := join(baseURL, path)
	old, tag := f.tags.get(address)
	var b []byte
	request := getRequest{URL: address, Max: max, ETag: tag}
	if digest, err := repo.ParseHex(path[strings.LastIndexByte(path, '/')+1:]); err == nil && path == repo.DataPath(digest) {
		request.Digest, request.Mirrors = &digest, f.addresses(baseURL, path)[1:]
	}
	err := f.ask(ctx, getRoute, request, func(answer *http.Response) (err error) {
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
	BaseURL  string // of the repository that has it; its mirrors are asked too
	Path     string
	Object   repo.Object
	Info     *repo.Object // the info dictionary of its swarm; nil: it has none
	Priority transfer.Priority
	Progress func(Progress) // may be nil; called ten times a second at most
}

// Progress is how far a blob is.
type Progress struct {
	Done, Total int64 // bytes
	Fetched     int64 // bytes that came over the network
	Peers       int   // servers and peers that are sending
}

// Result says where a blob came from. It is right also when there is an error.
type Result struct {
	Fetched int64            // bytes that came over the network
	Sources []transfer.Entry // in order of what they brought
}

// maxSources bounds what children can make the daemon remember of a blob.
const maxSources = 256

// Describe says where the blob came from, for logs: the first few sources.
func (r *Result) Describe() string {
	var parts []string
	for i, entry := range r.Sources {
		if i == describedSources {
			parts = append(parts, fmt.Sprintf("and %d more", len(r.Sources)-i))
			break
		}
		parts = append(parts, entry.String())
	}
	return strings.Join(parts, "; ")
}

const describedSources = 8

// add counts what one more child has brought.
func (r *Result) add(last *blobEvent, object repo.Object) {
	// A blob can come several times over, if it was damaged; what goes beyond
	// that is no child's that is to be believed.
	r.Fetched += min(max(last.Fetched, 0), 16*object.Size)
	for _, entry := range last.Sources {
		i := slices.IndexFunc(r.Sources, func(e transfer.Entry) bool { return e.Source == entry.Source })
		if i < 0 {
			if len(r.Sources) < maxSources {
				r.Sources = append(r.Sources, entry)
			}
			continue
		}
		r.Sources[i].Received += entry.Received
		r.Sources[i].Used += entry.Used
		r.Sources[i].Dropped += entry.Dropped
		r.Sources[i].Verdict += entry.Verdict
	}
}

// Blob brings a blob into the spool and opens it there, at its beginning.
// What an earlier try has left is gone on with. The child has checked the
// digest, but whoever reads the file must check it again, for the child can
// still write to it. The error wraps fs.ErrNotExist, ErrUnreachable,
// ErrMismatch or ErrNoSpace. When done with the blob, close the file and call
// [Fetcher.Discard].
func (f *Fetcher) Blob(ctx context.Context, r Request) (*os.File, Result, error) {
	var result Result
	err := f.bring(ctx, r, &result)
	var file *os.File
	if err == nil {
		file, err = f.openSpooled(r.Object.Digest.Hex(), r.Object.Size)
	}
	if err != nil {
		return nil, result, fmt.Errorf("cannot fetch %s: %w", join(r.BaseURL, r.Path), err)
	}
	return file, result, nil
}

// bring has children fetch the blob until one has not broken off, or several
// in a row have without bringing anything.
func (f *Fetcher) bring(ctx context.Context, r Request, result *Result) error {
	request := blobRequest{Object: r.Object, Places: f.addresses(r.BaseURL, r.Path), Priority: r.Priority}
	if r.Info != nil {
		request.Info, request.InfoPlaces = r.Info, f.addresses(r.BaseURL, repo.DataPath(r.Info.Digest))
		request.Trackers = f.trackers()
	}
	for try := 1; ; try++ {
		var last blobEvent
		err := f.ask(ctx, blobRoute, request, func(answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the fetcher refuses: %s", message(answer.Body))
			}
			last = blobEvent{}
			if err := follow(answer.Body, r, &last); err != nil {
				if last.Fetched >= minProgress && try < childTriesWithProgress {
					return &progressError{err}
				}
				return err
			}
			f.noteInfo(r, last.Info)
			return last.err()
		})
		result.add(&last, r.Object)
		var progress *progressError
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.As(err, &progress) {
			return err
		}
		f.options.Log.Warn("fetcher broke off, the next one goes on", "digest", r.Object.Digest, "done", last.Done)
	}
}

// progressError says that the child broke off after it had brought something.
type progressError struct{ err error }

func (e *progressError) Error() string { return e.err.Error() }

// addresses are those of a file, the repository's own first, then its mirrors'.
func (f *Fetcher) addresses(baseURL, path string) []string {
	list := []string{join(baseURL, path)}
	for repository, mirrors := range f.options.Config.Mirrors {
		if strings.TrimSuffix(repository, "/") != strings.TrimSuffix(baseURL, "/") {
			continue
		}
		for _, mirror := range mirrors {
			list = append(list, join(mirror, path))
		}
	}
	return list
}

// Discard removes a blob from the spool.
func (f *Fetcher) Discard(o repo.Object) error {
	f.mu.Lock()
	delete(f.infos, o.Digest)
	f.mu.Unlock()
	err := unix.Unlinkat(int(f.spool.Fd()), o.Digest.Hex(), 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove blob %s from the spool: %w", o.Digest, err)
	}
	return nil
}

// follow reads events until the last one, and keeps the newest in event.
func follow(body io.Reader, r Request, event *blobEvent) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var next blobEvent
		if err := repo.DecodeStrict(lines.Bytes(), &next); err != nil {
			return err
		}
		*event = next
		if r.Progress != nil {
			r.Progress(Progress{
				Done: min(max(next.Done, 0), r.Object.Size), Total: r.Object.Size,
				Fetched: max(next.Fetched, 0), Peers: max(next.Peers, 0),
			})
		}
		if next.Result != "" {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return &childError{err}
	}
	return &childError{io.ErrUnexpectedEOF}
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
