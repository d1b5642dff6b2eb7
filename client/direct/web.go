package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"stork/nestd/api"
)

// patience says when a server that says nothing, or hardly anything, is given
// up. What it bounds is progress: a large blob may take long, a stalled one
// may not.
type patience struct {
	answer time.Duration // to connect, and until an answer begins
	window time.Duration // in each of which least bytes must come
	least  int64         // bytes
	tries  int           // connections in a row that brought less than least
	pause  time.Duration // before the second of them; longer before the next
}

func usual() patience {
	return patience{answer: 30 * time.Second, window: time.Minute, least: 64 << 10, tries: 4, pause: 200 * time.Millisecond}
}

type web struct {
	client   *http.Client
	patience patience
}

func newWeb(p patience) *web {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: p.answer}).DialContext,
		TLSHandshakeTimeout: p.answer, ResponseHeaderTimeout: p.answer,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: p.window, DisableCompression: true,
	}
	return &web{patience: p, client: &http.Client{Transport: transport, CheckRedirect: checkRedirect}}
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > 4 || r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return errors.New("redirected too often or elsewhere")
	}
	return nil
}

func unreachable(url string, err error) error {
	return &api.Error{Code: api.Unreachable, Message: fmt.Sprintf("cannot reach repository %s: %v", url, err),
		Hint: "What is installed keeps working. Check the network and try again."}
}

// open asks for path from offset on. The answer's body begins at the offset
// that is returned: 0 where the server can not resume.
func (w *web) open(ctx context.Context, url, path string, offset int64) (answer *http.Response, from int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/"+path, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask repository %s: %w", url, err)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	answer, err = w.client.Do(request)
	if err != nil {
		return nil, 0, errors.Join(ctx.Err(), unreachable(url, err))
	}
	switch resumed := strings.HasPrefix(answer.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)); {
	case answer.StatusCode == http.StatusOK:
		return answer, 0, nil
	case answer.StatusCode == http.StatusPartialContent && offset > 0 && resumed:
		return answer, offset, nil
	case answer.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("cannot fetch %s: %w", path, fs.ErrNotExist)
	default:
		err = unreachable(url, fmt.Errorf("HTTP status %s for %s", answer.Status, path))
	}
	return nil, 0, errors.Join(err, answer.Body.Close())
}

// get reads a small file, of at most max bytes.
func (w *web) get(ctx context.Context, url, path string, max int64) ([]byte, error) {
	answer, _, err := w.open(ctx, url, path, 0)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(w.watch(answer.Body, max+1))
	if err != nil {
		return nil, errors.Join(ctx.Err(), unreachable(url, err))
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("cannot fetch %s: over %d bytes", path, max)
	}
	return b, nil
}

var errSlow = errors.New("the answer stalled")

// watched reads a body, and ends one that has stalled or trickles.
type watched struct {
	body     io.ReadCloser
	limited  io.Reader
	patience patience
	since    time.Time // when this window began
	got      int64     // bytes in it
}

func (w *web) watch(body io.ReadCloser, max int64) *watched {
	return &watched{body: body, limited: io.LimitReader(body, max), patience: w.patience, since: time.Now()}
}

// Read implements [io.Reader]. It takes a window at most, so that a server
// which sends too little is found out after two.
func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.patience.window, func() { _ = w.body.Close() })
	n, err := w.limited.Read(p)
	stalled := !timer.Stop()
	w.got += int64(n)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	if time.Since(w.since) >= w.patience.window {
		stalled = stalled || w.got < w.patience.least
		w.since, w.got = time.Now(), 0
	}
	if stalled {
		err = errSlow
	}
	return n, err
}
