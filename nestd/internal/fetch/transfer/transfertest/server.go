package transfertest

import (
	"bytes"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"net/http/httptest"
)

// Handler serves text at every path, with ranges, as a web server does that
// has the fault.
func Handler(text []byte, fault Fault) http.Handler {
	h := &handler{text: text, fault: fault}
	h.left.Store(int64(len(text)) * 99 / 100)
	return h
}

// Server serves text until the test ends.
func Server(t testing.TB, text []byte, fault Fault) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(Handler(text, fault))
	t.Cleanup(server.Close)
	return server
}

type handler struct {
	text  []byte
	fault Fault
	left  atomic.Int64 // bytes until it vanishes
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &faulty{ResponseWriter: w, handler: h, request: r, until: len(h.text) / 5}
	content := h.text
	switch h.fault {
	case Absent:
		http.NotFound(w, r)
		return
	case Corrupt:
		content = Content(len(h.text), 99)
	case Short:
		content = h.text[:len(h.text)-1]
	case Endless:
		h.endless(w, r)
		return
	case Vanishing:
		if h.left.Load() <= 0 {
			panic(http.ErrAbortHandler)
		}
	}
	http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(content))
}

// endless answers like one who knows no lengths and has no end.
func (h *handler) endless(w http.ResponseWriter, r *http.Request) {
	if from := r.Header.Get("Range"); from != "" {
		w.Header().Set("Content-Range", "bytes "+from[len("bytes="):]+"/"+strconv.Itoa(len(h.text)))
		w.WriteHeader(http.StatusPartialContent)
	}
	other := Content(64<<10, 99)
	for r.Context().Err() == nil {
		if _, err := w.Write(other); err != nil {
			return
		}
	}
}

// faulty writes as the fault wants it.
type faulty struct {
	http.ResponseWriter
	handler *handler
	request *http.Request
	until   int // of this answer, until it breaks off
}

// Write implements [io.Writer].
func (f *faulty) Write(p []byte) (int, error) {
	const step = 16 << 10
	for done := 0; done < len(p); {
		part := p[done:min(done+step, len(p))]
		switch f.handler.fault {
		case Slow:
			time.Sleep(time.Second * step / SlowRate * 4) // over four connections
		case Drip:
			part = part[:1]
			select {
			case <-time.After(50 * time.Millisecond):
			case <-f.request.Context().Done():
				return done, f.request.Context().Err()
			}
		case Interrupted:
			if f.until -= len(part); f.until < 0 {
				f.abort()
			}
		case Vanishing:
			if f.handler.left.Add(-int64(len(part))) < 0 {
				f.abort()
			}
		}
		n, err := f.ResponseWriter.Write(part)
		if done += n; err != nil {
			return done, err
		}
		if f.handler.fault != Healthy {
			_ = http.NewResponseController(f.ResponseWriter).Flush() // who hangs up is found by the next Write
		}
	}
	return len(p), nil
}

// abort breaks the connection off.
func (f *faulty) abort() {
	panic(http.ErrAbortHandler)
}
