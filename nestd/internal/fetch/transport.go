package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Tuning are the child's patience. The zero value of a field stands for its
// default.
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

// maxRedirects is how often a server may send us elsewhere.
const maxRedirects = 5

// newTransport makes a client that goes where it is told: no proxy out of
// the environment, no cookies, few redirects, and those to http and https only.
func newTransport(c childConfig) (*http.Client, error) {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  c.Tuning.withDefaults().Stall,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
	}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil {
			return nil, fmt.Errorf("cannot use proxy: %w", err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{Transport: transport, CheckRedirect: checkRedirect}, nil
}

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
