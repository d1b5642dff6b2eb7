package rpmfile

import (
	"errors"
	"io"
	"sync"
)

// Sizes in bytes of what a stream reads at once: the first piece is small, so
// that a package of a few KB needs neither much memory nor a goroutine.
const (
	firstPiece = 32 << 10
	nextPiece  = 256 << 10
	pieces     = 3
)

var errClosed = errors.New("the reader was closed")

// stream reads ahead of its consumer: behind the first piece a goroutine
// fills the next while the consumer works on this one. So reading and hashing
// the blob, decompressing it, and hashing and writing files go on at the same
// time. It is used by one goroutine at a time.
type stream struct {
	source io.Reader
	rest   []byte // of the current piece
	err    error  // what comes behind rest
	buf    []byte // the current piece, to be given back

	started bool
	full    chan piece
	free    chan []byte
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
}

type piece struct {
	data []byte
	err  error
}

func newStream(source io.Reader) *stream {
	return &stream{source: source, stop: make(chan struct{}), done: make(chan struct{})}
}

// window returns the unread part of the current piece, the next piece if that
// is empty. At the end of the stream it returns nothing and the error.
func (s *stream) window() ([]byte, error) {
	for len(s.rest) == 0 {
		if s.err != nil {
			return nil, s.err
		}
		s.next()
	}
	return s.rest, nil
}

func (s *stream) advance(n int) { s.rest = s.rest[n:] }

func (s *stream) next() {
	if s.buf == nil {
		s.buf = make([]byte, firstPiece)
		s.rest, s.err = fill(s.source, s.buf)
		return
	}
	if !s.started {
		s.start()
	} else {
		s.free <- s.buf[:cap(s.buf)]
	}
	select {
	case p := <-s.full:
		s.buf, s.rest, s.err = p.data, p.data, p.err
	case <-s.stop:
		s.err = errClosed
	}
}

// start begins to read ahead. The first piece's buffer is left to the
// collector.
func (s *stream) start() {
	s.started = true
	s.full = make(chan piece, pieces)
	s.free = make(chan []byte, pieces)
	for range pieces {
		s.free <- make([]byte, nextPiece)
	}
	go s.run()
}

func (s *stream) run() {
	defer close(s.done)
	for {
		select {
		case buf := <-s.free:
			data, err := fill(s.source, buf)
			s.full <- piece{data, err} // has room for every buffer there is
			if err != nil {
				return
			}
		case <-s.stop:
			return
		}
	}
}

// fill reads until buf is full or the stream ends. A panic of the library
// that decompresses ends the stream with an error.
func fill(r io.Reader, buf []byte) (data []byte, err error) {
	defer guard(&err)
	n := 0
	for n < len(buf) {
		var more int
		more, err = r.Read(buf[n:])
		n += more
		data = buf[:n]
		if err != nil {
			return data, err
		}
	}
	return data, nil
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	have, err := s.window()
	if err != nil {
		return 0, err
	}
	n := copy(p, have)
	s.advance(n)
	return n, nil
}

// ReadByte implements [io.ByteReader], which decompressors ask for.
func (s *stream) ReadByte() (byte, error) {
	have, err := s.window()
	if err != nil {
		return 0, err
	}
	s.advance(1)
	return have[0], nil
}

// cancel makes the consumer's and the goroutine's next step fail.
func (s *stream) cancel() { s.once.Do(func() { close(s.stop) }) }

// wait returns when the goroutine has ended.
func (s *stream) wait() {
	if s.started {
		<-s.done
	}
}
