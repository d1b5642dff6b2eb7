package rpmfile

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds what a decompressor keeps of what it has written. It is
// what `zstd --ultra -22` and `xz -9` stay within.
const maxWindow = 128 << 20

// decompressor opens the payload. A package without a compressor tag is
// compressed with gzip, if it is old, or not at all: its first bytes tell.
func decompressor(name string, raw *stream) (io.Reader, func(), error) {
	nothing := func() {}
	if name == "" || name == "none" || name == "identity" {
		if have, _ := raw.window(); bytes.HasPrefix(have, []byte{0x1f, 0x8b}) {
			name = "gzip"
		} else {
			return raw, nothing, nil
		}
	}
	switch name {
	case "gzip":
		z, err := gzip.NewReader(raw)
		return z, nothing, payloadError(err)
	case "bzip2":
		return bzip2.NewReader(raw), nothing, nil
	case "zstd":
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, payloadError(err)
		}
		return z, z.Close, nil
	case "lzma":
		z, err := lzma.ReaderConfig{DictCap: maxWindow}.NewReader(raw)
		return z, nothing, payloadError(err)
	case "xz":
		z, err := xz.ReaderConfig{SingleStream: true}.NewReader(&xzGuard{raw: raw})
		return z, nothing, payloadError(err)
	}
	return nil, nil, unsupported("its payload is compressed with %q", name)
}

// payloadError tells a damaged payload from a stream that could not be read.
func payloadError(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrMalformed), errors.Is(err, ErrUnsupported), errors.Is(err, errClosed), errors.As(err, new(*sourceError)):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("it ends inside its payload")
	}
	return malformed("its payload: %w", err)
}

// sourceError is an error of the stream that the package is read from.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
