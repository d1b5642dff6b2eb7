package unpack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What the child sends to its parent, which is the same program, is a row of
// messages: one byte that says what it is, the length of what follows (8
// bytes, big-endian), and that many bytes. First comes the file list; then
// for each content a file message and as many content messages as it takes;
// then the record, and nothing behind it. A refusal may come in the place of
// any of them, and is the last one too.
const (
	sendsList    = 1
	sendsFile    = 2 // the file's place in the list and its size, 8 bytes each, big-endian
	sendsContent = 3
	sendsRecord  = 4
	refuses      = 5 // why, as text
)

const (
	headSize  = 1 + 8
	fileSize  = 8 + 8
	maxReason = 4 << 10   // bytes of the child's reason that are kept
	bufferLen = 256 << 10 // of either side
)

// sender is the child's end.
type sender struct{ out *bufio.Writer }

func newSender(w io.Writer) *sender { return &sender{bufio.NewWriterSize(w, bufferLen)} }

func (s *sender) send(kind byte, text []byte) error {
	head := binary.BigEndian.AppendUint64(append(s.out.AvailableBuffer(), kind), uint64(len(text)))
	if _, err := s.out.Write(head); err != nil {
		return err
	}
	_, err := s.out.Write(text)
	return err
}

func (s *sender) file(index int, size int64) error {
	text := binary.BigEndian.AppendUint64(make([]byte, 0, fileSize), uint64(index))
	return s.send(sendsFile, binary.BigEndian.AppendUint64(text, uint64(size)))
}

// Write implements [io.Writer]: it sends some content of the current file.
func (s *sender) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.send(sendsContent, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *sender) refuse(reason error) error {
	text := []byte(reason.Error())
	if err := s.send(refuses, text[:min(len(text), maxReason)]); err != nil {
		return err
	}
	return s.out.Flush()
}

// Errors of a child that does not keep to the protocol.
var (
	errCut   = errors.New("the answer is cut short")
	errOrder = errors.New("the answer is out of order")
)

// refused is the child's own word on why it failed, harmless to print.
type refused string

func (r refused) Error() string { return string(r) }

// receiver is the parent's end. It believes nothing that it reads.
type receiver struct {
	in    *bufio.Reader
	spoke bool // the child said something
}

func newReceiver(r io.Reader) *receiver { return &receiver{in: bufio.NewReaderSize(r, bufferLen)} }

// next reads the head of the next message, which must be of one of the kinds.
func (r *receiver) next(kinds ...byte) (kind byte, size uint64, err error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		if errors.Is(err, io.EOF) && !r.spoke {
			return 0, 0, io.EOF // the child said nothing at all
		}
		return 0, 0, errCut
	}
	r.spoke = true
	kind, size = head[0], binary.BigEndian.Uint64(head[1:])
	if kind == refuses {
		text, err := r.text(size, maxReason)
		if err != nil {
			return 0, 0, err
		}
		return 0, 0, refused(printable(string(text)))
	}
	for _, expected := range kinds {
		if kind == expected {
			return kind, size, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: message %d", errOrder, kind)
}

// text reads the rest of a message that has at most so many bytes.
func (r *receiver) text(size uint64, most int64) ([]byte, error) {
	if size > uint64(max(most, 0)) {
		return nil, fmt.Errorf("a message of %d bytes, at most %d are allowed", size, most)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, errCut
	}
	return b, nil
}

// whole reads a message of that kind.
func (r *receiver) whole(kind byte, most int64) ([]byte, error) {
	_, size, err := r.next(kind)
	if err != nil {
		return nil, err
	}
	return r.text(size, most)
}
