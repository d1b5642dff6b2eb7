package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"stork/nestd/api"
	"stork/repo"
)

// Times after which a server that says nothing is given up.
const (
	answerTimeout = 30 * time.Second
	stallTimeout  = 60 * time.Second
	attempts      = 4
)

type web struct {
	client *http.Client
}

func newWeb() *web {
	return &web{&http.Client{
		Transport: &http.Transport{ResponseHeaderTimeout: answerTimeout, MaxIdleConnsPerHost: 4, DisableCompression: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 4 || r.URL.Scheme != "http" && r.URL.Scheme != "https" {
				return errors.New("redirected too often or elsewhere")
			}
			return nil
		},
	}}
}

func unreachable(url string, err error) error {
	return &api.Error{Code: api.Unreachable, Message: fmt.Sprintf("cannot reach repository %s: %v", url, err),
		Hint: "What is installed keeps working. Check the network and try again."}
}

// open asks for path from offset on.
func (w *web) open(ctx context.Context, url, path string, offset int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask repository %s: %w", url, err)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	answer, err := w.client.Do(request)
	if err != nil {
		return nil, unreachable(url, err)
	}
	switch {
	case answer.StatusCode == http.StatusOK && offset == 0, answer.StatusCode == http.StatusPartialContent && offset > 0:
		return answer, nil
	case answer.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("cannot fetch %s: %w", path, fs.ErrNotExist)
	default:
		err = unreachable(url, fmt.Errorf("HTTP status %s for %s", answer.Status, path))
	}
	return nil, errors.Join(err, answer.Body.Close())
}

// get reads a small file, of at most max bytes.
func (w *web) get(ctx context.Context, url, path string, max int64) ([]byte, error) {
	answer, err := w.open(ctx, url, path, 0)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(&watched{r: io.LimitReader(answer.Body, max+1), stop: func() { _ = answer.Body.Close() }})
	if err != nil {
		return nil, unreachable(url, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("cannot fetch %s: over %d bytes", path, max)
	}
	return b, nil
}

// watched ends a body that has stalled.
type watched struct {
	r    io.Reader
	stop func()
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(stallTimeout, w.stop)
	defer timer.Stop()
	return w.r.Read(p)
}

// blob appends to file until it holds object.Size bytes, over as many
// connections as it takes while each brings something. It does not check the
// digest: who reads the file does.
func (w *web) blob(ctx context.Context, url string, object repo.Object, file *os.File, progress func(done int64)) (fetched int64, err error) {
	done, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	for failures := 0; done < object.Size; {
		n, err := w.part(ctx, url, object, file, done, progress)
		done, fetched = done+n, fetched+n
		if err == nil || ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) {
			return fetched, errors.Join(err, ctx.Err())
		}
		var wire *api.Error
		if !errors.As(err, &wire) || wire.Code != api.Unreachable {
			return fetched, err // the disk, not the network
		}
		if n > 0 {
			failures = 0
		}
		if failures++; failures == attempts {
			return fetched, err
		}
		time.Sleep(time.Duration(failures) * 200 * time.Millisecond)
	}
	return fetched, nil
}

// part copies one answer's bytes behind those that the file has.
func (w *web) part(ctx context.Context, url string, object repo.Object, file *os.File, done int64, progress func(int64)) (n int64, err error) {
	answer, err := w.open(ctx, url, repo.BlobPath(object.Digest), done)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	body := &watched{r: io.LimitReader(answer.Body, object.Size-done), stop: func() { _ = answer.Body.Close() }}
	buffer := make([]byte, 256<<10)
	for {
		read, err := body.Read(buffer)
		if read > 0 {
			if _, err := file.Write(buffer[:read]); err != nil {
				return n, fmt.Errorf("cannot spool blob %s: %w", object.Digest, err)
			}
			n += int64(read)
			progress(done + n)
		}
		switch {
		case done+n == object.Size:
			return n, nil
		case errors.Is(err, io.EOF):
			return n, unreachable(url, io.ErrUnexpectedEOF)
		case err != nil:
			return n, unreachable(url, err)
		}
	}
}
