package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Tuning is the patience that servers find. The zero value of a field stands
// for its default.
type Tuning struct {
	Stall    time.Duration `json:"stall,omitempty"`     // how long MinBytes may take; default 30 s
	MinBytes int64         `json:"min_bytes,omitempty"` // default 16 KiB
	Tries    int           `json:"tries,omitempty"`     // in a row that bring less than MinBytes; default 6
	Backoff  time.Duration `json:"backoff,omitempty"`   // before the second try, doubled with each; default 250 ms
}

func (t Tuning) withDefaults() Tuning {
	if t.Stall == 0 {
		t.Stall = 30 * time.Second
	}
	if t.MinBytes == 0 {
		t.MinBytes = 16 << 10
	}
	if t.Tries == 0 {
		t.Tries = 6
	}
	if t.Backoff == 0 {
		t.Backoff = 250 * time.Millisecond
	}
	return t
}

// Client asks web servers. Its methods may be called from several goroutines.
type Client struct {
	http   *http.Client
	tuning Tuning
	lame   lame
}

// ClientOptions say how servers are reached.
type ClientOptions struct {
	Proxy  string // address of an HTTP proxy; empty: none
	Tuning Tuning

	// Allow refuses addresses after their names are resolved, so that no name
	// leads around it; nil allows all. The argument is host and port.
	Allow func(address string) error

	NoRedirects bool // whoever sends us elsewhere is refused
}

// maxRedirects is how often a server may send us elsewhere.
const maxRedirects = 5

// NewClient makes a client that goes where it is told: no proxy out of the
// environment, no cookies, few redirects, and those to http and https only.
func NewClient(o ClientOptions) (*Client, error) {
	tuning := o.Tuning.withDefaults()
	dialer := &net.Dialer{Timeout: min(15*time.Second, tuning.Stall), KeepAlive: 30 * time.Second}
	if o.Allow != nil {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error { return o.Allow(address) }
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  tuning.Stall,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    keptConnections,
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         readBuffer,
	}
	if o.Proxy != "" {
		proxy, err := url.Parse(o.Proxy)
		if err != nil {
			return nil, fmt.Errorf("cannot use proxy: %w", err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	redirect := checkRedirect
	if o.NoRedirects {
		redirect = func(*http.Request, []*http.Request) error { return errors.New("redirects are not allowed") }
	}
	return &Client{http: &http.Client{Transport: transport, CheckRedirect: redirect}, tuning: tuning}, nil
}

// How many connections to a server are kept for the next file, and how much,
// in bytes, is read from one at once.
const (
	keptConnections = 32
	readBuffer      = 64 << 10
)

func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	return checkURL(next.URL)
}

// checkURL refuses what is not an address of a web server.
func checkURL(u *url.URL) error {
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not an http or https address", u)
	}
	return nil
}

// PermanentError is a refusal that asking again will not change.
type PermanentError struct{ Status string }

// Error implements error.
func (e *PermanentError) Error() string { return "HTTP status " + e.Status }

// BusyError is a refusal of a server that wants to be asked again later.
type BusyError struct {
	Status string
	After  time.Duration // as it says; 0: it does not
}

// Error implements error.
func (e *BusyError) Error() string { return "HTTP status " + e.Status }

// Get sends one GET request. An answer is one with a status below 400, or 416;
// an absent file is fs.ErrNotExist, a refusal a [*PermanentError] or a
// [*BusyError].
func (c *Client) Get(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &PermanentError{err.Error()}
	}
	if err := checkURL(request.URL); err != nil {
		return nil, &PermanentError{err.Error()}
	}
	for key, values := range header {
		if values != nil {
			request.Header[key] = values
		}
	}
	request.Header.Set("User-Agent", "nestd")
	answer, err := c.http.Do(request)
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), errStalled) {
		c.lame.note(request.URL.Host, err == nil)
	}
	if err != nil {
		return nil, Cause(ctx, err)
	}
	switch code := answer.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		err = fs.ErrNotExist
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
		err = &BusyError{answer.Status, retryAfter(answer.Header.Get("Retry-After"), time.Now())}
	case code == http.StatusRequestedRangeNotSatisfiable || code < 400:
		return answer, nil
	default:
		err = &PermanentError{answer.Status}
	}
	answer.Body.Close()
	return nil, err
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds or a
// date; 0 if it is neither.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil && date.After(now) {
		return date.Sub(now)
	}
	return 0
}
