package channel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Version is the version of the protocol, which hello and welcome carry.
const Version = 1

// kind says what a frame is for.
type kind byte

// The kinds of frame, with their payload.
const (
	hello   kind = 1 // guest: a session begins; the version
	welcome kind = 2 // host: it has; the version
	open    kind = 3 // guest: a connection begins
	data    kind = 4 // bytes of a connection
	credit  kind = 5 // so many bytes more may be sent: 4 bytes, big-endian
	closing kind = 6 // nothing more comes, and nothing more is read; perhaps why
	bye     kind = 7 // the session ends; perhaps why
)

// session names one process's use of the port.
type session [8]byte

// frame is one message. A payload is valid until the next one is read.
type frame struct {
	session session
	kind    kind
	stream  uint32 // connection; 0 where the frame is about the session
	payload []byte
}

// maxPayload is how many bytes of payload a frame has at most. maxBody and
// maxEncoded are what that makes the frame before and after encoding, without
// delimiters.
const (
	maxPayload = 16 << 10
	headSize   = 8 + 1 + 4
	sumSize    = 4
	maxBody    = headSize + maxPayload + sumSize
	maxEncoded = maxBody + maxBody/254 + 1
)

// delimiter separates frames, and occurs in none.
const delimiter = 0

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendFrame appends the frame with a delimiter before and after it: the one
// before ends whatever was cut off there.
func appendFrame(to []byte, f frame) []byte {
	body := make([]byte, 0, headSize+len(f.payload)+sumSize)
	body = append(body, f.session[:]...)
	body = append(body, byte(f.kind))
	body = binary.BigEndian.AppendUint32(body, f.stream)
	body = append(body, f.payload...)
	body = binary.BigEndian.AppendUint32(body, sum(body))
	return append(appendStuffed(append(to, delimiter), body), delimiter)
}

// errFrame is what is wrong with bytes between two delimiters.
var errFrame = errors.New("no frame")

// parseFrame reads what stands between two delimiters. The payload lies in
// scratch, which has room for maxBody bytes.
func parseFrame(encoded, scratch []byte) (frame, error) {
	body, err := unstuff(scratch[:0], encoded)
	if err != nil {
		return frame{}, err
	}
	if len(body) < headSize+sumSize {
		return frame{}, fmt.Errorf("%w: too short", errFrame)
	}
	rest, check := body[:len(body)-sumSize], body[len(body)-sumSize:]
	if binary.BigEndian.Uint32(check) != sum(rest) {
		return frame{}, fmt.Errorf("%w: its checksum is wrong", errFrame)
	}
	return frame{
		session: session(rest[:8]), kind: kind(rest[8]),
		stream: binary.BigEndian.Uint32(rest[9:headSize]), payload: rest[headSize:],
	}, nil
}

// frameReader finds the frames in a stream.
type frameReader struct {
	in      *bufio.Reader
	scratch []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(r, maxEncoded+1), scratch: make([]byte, 0, maxBody)}
}

// next returns the next frame, passing over everything that is none. It fails
// only when the stream does.
func (r *frameReader) next() (frame, error) {
	for {
		encoded, err := r.in.ReadSlice(delimiter)
		for errors.Is(err, bufio.ErrBufferFull) {
			// Too long for a frame: up to the next delimiter it is none.
			_, err = r.in.ReadSlice(delimiter)
			encoded = nil
		}
		if err != nil {
			return frame{}, err
		}
		encoded = bytes.TrimSuffix(encoded, []byte{delimiter})
		if f, err := parseFrame(encoded, r.scratch); err == nil {
			return f, nil
		}
	}
}

// frameWriter writes frames, whole, from several goroutines.
type frameWriter struct {
	mu  sync.Mutex
	out io.Writer
	buf []byte
}

// write writes a frame unless its session is over when its turn comes.
func (w *frameWriter) write(over <-chan struct{}, f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-over:
		return errOver
	default:
	}
	w.buf = appendFrame(w.buf[:0], f)
	_, err := w.out.Write(w.buf)
	return err
}

// appendStuffed appends b in consistent overhead byte stuffing (Cheshire and
// Baker, 1999), in which no byte is 0.
func appendStuffed(to, b []byte) []byte {
	for {
		n := bytes.IndexByte(b, 0)
		if n < 0 {
			n = len(b)
		}
		if n >= 254 {
			to = append(append(to, 255), b[:254]...)
			b = b[254:]
			if len(b) == 0 {
				return to
			}
			continue
		}
		to = append(append(to, byte(n+1)), b[:n]...)
		if n == len(b) {
			return to
		}
		b = b[n+1:]
	}
}

// unstuff undoes appendStuffed. It refuses what would be over maxBody bytes.
func unstuff(to, b []byte) ([]byte, error) {
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || n > len(b) || bytes.IndexByte(b[1:n], 0) >= 0 {
			return nil, fmt.Errorf("%w: cut off", errFrame)
		}
		to = append(to, b[1:n]...)
		b = b[n:]
		if n < 255 && len(b) > 0 {
			to = append(to, 0)
		}
		if len(to) > maxBody {
			return nil, fmt.Errorf("%w: too long", errFrame)
		}
	}
	return to, nil
}
