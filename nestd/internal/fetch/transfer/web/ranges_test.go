package web_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
)

// rangesOf gets ranges and puts them together.
func rangesOf(ctx context.Context, places []string, list []transfer.Range) ([][]byte, []transfer.Entry, error) {
	client, err := web.NewClient(web.ClientOptions{Tuning: web.Tuning{Stall: 2 * time.Second, Backoff: time.Millisecond, Tries: 3}})
	if err != nil {
		return nil, nil, err
	}
	got := make([][]byte, len(list))
	for n, r := range list {
		got[n] = make([]byte, r.Len())
	}
	var mu sync.Mutex
	entries, err := client.Ranges(ctx, web.Ranges{
		Name: "test", Places: places, Ranges: list,
		Pace: func(context.Context, int) error { return nil },
		Write: func(number int, at int64, p []byte) error {
			mu.Lock()
			defer mu.Unlock()
			copy(got[number][at:], p)
			return nil
		},
	})
	return got, entries, err
}

// TestRanges gets ranges of a file from servers that break off, that do not
// have it or that do not answer as asked.
func TestRanges(t *testing.T) {
	t.Parallel()
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	good := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
	var asked atomic.Int64
	breaking := func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			r = r.Clone(r.Context())
			good(&cutWriter{ResponseWriter: w, left: 20_000}, r)
			return
		}
		good(w, r)
	}
	list := []transfer.Range{{From: 0, To: 10}, {From: 100, To: 100_000}, {From: 200_000, To: 500_000}, {From: 1<<20 - 1, To: 1 << 20}}
	for name, tt := range map[string]struct {
		handlers []http.HandlerFunc
		fails    bool
		absent   bool
	}{
		"one server":               {[]http.HandlerFunc{good}, false, false},
		"absent":                   {[]http.HandlerFunc{http.NotFound}, true, true},
		"absent at the first":      {[]http.HandlerFunc{http.NotFound, good}, false, false},
		"breaks off":               {[]http.HandlerFunc{breaking}, false, false},
		"ranges are not its thing": {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }}, true, false},
		"is too busy":              {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, good}, false, false},
		"is shorter": {[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content[:300_000]))
		}}, true, false},
		"nobody": {nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var places []string
			for _, h := range tt.handlers {
				server := httptest.NewServer(h)
				defer server.Close()
				places = append(places, server.URL)
			}
			got, entries, err := rangesOf(t.Context(), places, list)
			if (err != nil) != tt.fails || errors.Is(err, fs.ErrNotExist) != tt.absent {
				t.Fatalf("error %v", err)
			}
			if tt.fails {
				return
			}
			received := int64(0)
			for _, e := range entries {
				received += e.Received
			}
			if want := int64(10 + 99_900 + 300_000 + 1); received != want {
				t.Errorf("%d bytes came, want %d", received, want)
			}
			for n, r := range list {
				if !bytes.Equal(got[n], content[r.From:r.To]) {
					t.Errorf("range %v is not what the file has there", r)
				}
			}
		})
	}
}

// cutWriter breaks the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

// Write implements io.Writer.
func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// TestRangesEnd ends with its context, and with a writer that fails.
func TestRangesEnd(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := rangesOf(ctx, []string{server.URL}, []transfer.Range{{From: 0, To: 10}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
