package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

// What is compressed: documents in JSON, from where it saves a packet to
// where one client could occupy the processor for long. Packs, deltas,
// frames and blobs are compressed already.
const (
	compressFrom = 1 << 10  // bytes
	compressTo   = 32 << 20 // bytes
	compressKeep = 64 << 20 // bytes of compressed documents in memory
)

// compressor keeps documents as they were compressed last, for every nest
// asks for the same ones. Keys have path and tag: a file with the same tag has
// the same content, so what is kept is right for ever.
type compressor struct {
	tokens chan struct{} // for each document that is being compressed: nests wait, and do not take the processor from uploads

	mu    sync.Mutex
	kept  map[string][]byte // by key; nil: compressing does not pay
	bytes int
}

func newCompressor(processors int) *compressor {
	return &compressor{tokens: make(chan struct{}, processors), kept: map[string][]byte{}}
}

// acceptsGzip reports whether a request may be answered with the compressed
// form: not if it asks for a range, which is one of the document itself.
func acceptsGzip(r *http.Request) bool {
	if r.Header.Get("Range") != "" {
		return false
	}
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return strings.Trim(strings.TrimPrefix(quality, "q="), "0.") != "" || quality == ""
		}
	}
	return false
}

// gzipped returns a document compressed, or nil if that does not pay.
func (c *compressor) gzipped(ctx context.Context, key string, f *os.File, size int64) ([]byte, error) {
	if b, ok := c.find(key); ok {
		return b, nil
	}
	select {
	case c.tokens <- struct{}{}:
		defer func() { <-c.tokens }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b, ok := c.find(key); ok {
		return b, nil // by who had the token
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := io.Copy(z, io.NewSectionReader(f, 0, size)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	b := buf.Bytes()
	if int64(len(b)) > size-size/8 {
		b = nil
	}
	c.keep(key, b)
	return b, nil
}

func (c *compressor) find(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.kept[key]
	return b, ok
}

// keepCost is what a kept document costs beside its bytes.
const keepCost = 256

// keep makes room among what is kept, whatever it is.
func (c *compressor) keep(key string, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.kept[key]; ok {
		return
	}
	for old, was := range c.kept {
		if c.bytes+len(b)+keepCost <= compressKeep {
			break
		}
		delete(c.kept, old)
		c.bytes -= len(was) + keepCost
	}
	c.kept[key] = b
	c.bytes += len(b) + keepCost
}
