package server

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// pace wraps the answer to a read: it counts what reaches the client and
// gives up on clients that are too slow, who would otherwise hold
// connections for ever.
func (s *Server) pace(w http.ResponseWriter, kind string) *pacedWriter {
	return &pacedWriter{ResponseWriter: w, count: s.counters.bytes[kind], deadline: s.deadline()}
}

// deadline is when a client must have moved that many bytes.
type deadline struct {
	start time.Time
	grace time.Duration
	pace  int64 // bytes a second
}

func (s *Server) deadline() deadline {
	return deadline{start: time.Now(), grace: s.opts.Grace, pace: s.opts.Pace}
}

func (d deadline) after(moved int64) time.Time {
	return d.start.Add(d.grace + time.Duration(float64(moved)/float64(d.pace)*float64(time.Second)))
}

// pacedWriter writes to the client in pieces and moves the deadline on with
// each.
type pacedWriter struct {
	http.ResponseWriter
	count    *atomic.Int64
	deadline deadline
	written  int64
}

// Unwrap lets http.ResponseController find the connection.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w *pacedWriter) Write(p []byte) (int, error) {
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.wrote(int64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files go out by sendfile(2). The
// pieces are LimitedReaders over the file itself, as package net wants them
// for that.
func (w *pacedWriter) ReadFrom(r io.Reader) (total int64, err error) {
	const piece = 4 << 20
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(writerOnly{w}, r)
	}
	for limited.N > 0 {
		w.extend()
		part := &io.LimitedReader{R: limited.R, N: min(piece, limited.N)}
		n, err := io.Copy(w.ResponseWriter, part)
		w.wrote(n)
		total += n
		limited.N -= n
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

func (w *pacedWriter) wrote(n int64) {
	w.written += n
	w.count.Add(n)
}

func (w *pacedWriter) extend() {
	// Errors mean that the connection has no deadlines: a test's recorder.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.deadline.after(w.written))
}

type writerOnly struct{ io.Writer }

// pacedBody reads a request's body from a client that may be too slow.
type pacedBody struct {
	io.Reader
	controller *http.ResponseController
	deadline   deadline
	read       int64
}

func (s *Server) pacedBody(w http.ResponseWriter, r *http.Request) io.Reader {
	return &pacedBody{Reader: r.Body, controller: http.NewResponseController(w), deadline: s.deadline()}
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	_ = b.controller.SetReadDeadline(b.deadline.after(b.read)) // as in extend
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	if errors.Is(err, io.EOF) {
		// From the end of the body on, net/http reads ahead to notice that the
		// client went away. That it is only waiting for an answer, which may
		// take minutes, is no reason to end its request.
		_ = b.controller.SetReadDeadline(time.Time{})
	}
	return n, err
}
