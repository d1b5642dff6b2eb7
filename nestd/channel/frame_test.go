package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file")

var vectors = []frame{
	{session{1, 2, 3, 4, 5, 6, 7, 8}, hello, 0, []byte{Version}},
	{session{1, 2, 3, 4, 5, 6, 7, 8}, welcome, 0, []byte{Version}},
	{session{255, 0, 255}, open, 1, nil},
	{session{255, 0, 255}, data, 1, []byte("GET /v1/status HTTP/1.1\r\nHost: nest\r\n\r\n")},
	{session{255, 0, 255}, data, 0x01000001, bytes.Repeat([]byte{0, 7}, 4)},
	{session{255, 0, 255}, credit, 1, []byte{0, 0, 1, 0}},
	{session{255, 0, 255}, closing, 1, []byte("connection refused")},
	{session{}, bye, 0, nil},
}

// TestGolden holds the frames on the wire to a file.
func TestGolden(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, f := range vectors {
		b.WriteString(hex.EncodeToString(appendFrame(nil, f)) + "\n")
	}
	path := filepath.Join("testdata", "frames.txt")
	if *update {
		must(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestFramesInNoise: every whole frame is found, whatever stands between.
func TestFramesInNoise(t *testing.T) {
	t.Parallel()
	var stream []byte
	for i, f := range vectors {
		whole := appendFrame(nil, f)
		stream = append(stream, whole[:len(whole)*i/len(vectors)]...) // cut off
		stream = append(stream, bytes.Repeat([]byte{byte(i)}, i*9000)...)
		stream = append(stream, whole...)
	}
	in := newFrameReader(bytes.NewReader(stream))
	for i, want := range vectors {
		got, err := in.next()
		must(t, err)
		if got.session != want.session || got.kind != want.kind || got.stream != want.stream || !bytes.Equal(got.payload, want.payload) {
			t.Errorf("frame %d: got %+v, want %+v", i, got, want)
		}
	}
	if f, err := in.next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %+v, %v after the last frame", f, err)
	}
}

func TestStuffing(t *testing.T) {
	t.Parallel()
	for n := range 600 {
		for _, b := range [][]byte{bytes.Repeat([]byte{1}, n), make([]byte, n), append(bytes.Repeat([]byte{1}, n), 0), append(bytes.Repeat([]byte{1}, n), 0, 1)} {
			stuffed := appendStuffed(nil, b)
			if bytes.IndexByte(stuffed, 0) >= 0 || len(stuffed) > len(b)+len(b)/254+1 {
				t.Fatalf("%x becomes %x", b, stuffed)
			}
			back, err := unstuff(nil, stuffed)
			must(t, err)
			if !bytes.Equal(back, b) {
				t.Fatalf("%x comes back as %x", b, back)
			}
		}
	}
}

// TestLargest: the largest frame is read, one that is larger is passed over.
func TestLargest(t *testing.T) {
	t.Parallel()
	large := frame{kind: data, stream: 1, payload: bytes.Repeat([]byte{1}, maxPayload)}
	larger := frame{kind: data, stream: 2, payload: bytes.Repeat([]byte{1}, maxPayload+1)}
	in := newFrameReader(bytes.NewReader(appendFrame(appendFrame(nil, larger), large)))
	f, err := in.next()
	must(t, err)
	if f.stream != 1 || len(f.payload) != maxPayload {
		t.Errorf("got %d bytes of connection %d", len(f.payload), f.stream)
	}
}

func FuzzFrames(f *testing.F) {
	for _, v := range vectors {
		f.Add(appendFrame(nil, v))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		in := newFrameReader(bytes.NewReader(stream))
		for {
			got, err := in.next()
			if err != nil {
				return
			}
			if len(got.payload) > maxPayload {
				t.Fatalf("a payload of %d bytes", len(got.payload))
			}
			again, err := newFrameReader(bytes.NewReader(appendFrame(nil, got))).next()
			if err != nil || again.kind != got.kind || !bytes.Equal(again.payload, got.payload) {
				t.Fatalf("%+v comes back as %+v, %v", got, again, err)
			}
		}
	})
}

// FuzzServe sends frames of any kind: the host must end when the stream does,
// and hold no more than the windows.
func FuzzServe(f *testing.F) {
	f.Add([]byte{1, 0, 1, 1, 3, 1, 0, 4, 1, 5})
	f.Add([]byte{1, 0, 1, 1, 3, 1, 0, 6, 1, 0, 3, 2, 0, 5, 2, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		guest, port := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- Serve(context.Background(), port, func(context.Context) (net.Conn, error) {
				a, b := net.Pipe()
				go func() { _, _ = io.Copy(b, io.LimitReader(b, 100)); _ = b.Close() }()
				return a, nil
			})
		}()
		go func() { _, _ = io.Copy(io.Discard, guest) }()
		for len(script) >= 3 { // kind, connection, length of the payload
			payload := make([]byte, int(script[2])*64)
			if k := kind(script[0]); k == hello {
				payload = []byte{Version}
			} else if k == credit {
				payload = binary.BigEndian.AppendUint32(nil, uint32(script[2]))
			}
			_, err := guest.Write(appendFrame(nil, frame{session{1}, kind(script[0]), uint32(script[1]), payload}))
			must(t, err)
			script = script[3:]
		}
		must(t, guest.Close())
		must(t, <-done)
	})
}
