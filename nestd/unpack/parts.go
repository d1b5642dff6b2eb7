package unpack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/frames"
)

// Part is the content of one file that lies in frames: see package frames.
type Part struct {
	Index  int            // the place in the file list of its first name
	Size   int64          // bytes
	Frames []frames.Frame // where they lie in the file that is given to OpenParts
}

// OpenParts starts a child on a file that has frames of a package, which it
// decompresses as Open has a package unpacked: the caller closes what is
// returned, and reads the parts in order. There is no file list and no record,
// and nobody can say whether the file is what it should be; what comes out, the
// store compares with the list.
func OpenParts(ctx context.Context, o Options, file *os.File, blob repo.Object, parts []Part) (*Package, error) {
	allowed := timeFor(blob.Size, o.InstalledSize, o.FileListSize)
	ctx, cancel := context.WithTimeoutCause(ctx, allowed, fmt.Errorf("took longer than %v", allowed))
	p := &Package{ctx: ctx, cancel: cancel, blob: file, want: blob, stderr: &tail{}, left: o.InstalledSize}
	var err error
	if p.parts, err = writeParts(parts); err == nil {
		err = errors.Join(p.start(o, allowed), p.parts.Close())
	}
	if err != nil {
		cancel()
		return nil, p.explain(err)
	}
	return p, nil
}

// partsArg tells the child that there is a descriptor with parts.
const partsArg = "parts"

// What the child is told: for each part its index, its size and the number of
// its frames, and for each of them where it is and its sizes; each number 8
// bytes, big-endian.

// writeParts writes what the child is told into a file in memory.
func writeParts(parts []Part) (*os.File, error) {
	fd, err := unix.MemfdCreate("parts", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "parts")
	out := bufio.NewWriter(file)
	put := func(numbers ...int64) {
		for _, n := range numbers {
			// An error stays, and Flush returns it.
			_, _ = out.Write(binary.BigEndian.AppendUint64(out.AvailableBuffer(), uint64(n)))
		}
	}
	for _, part := range parts {
		put(int64(part.Index), part.Size, int64(len(part.Frames)))
		for _, f := range part.Frames {
			put(f.Offset, f.Length, f.Content)
		}
	}
	err = out.Flush()
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// partReader is the child's side. What it reads, its parent wrote.
type partReader struct{ in *bufio.Reader }

// number returns the next number; io.EOF if there is none.
func (r partReader) number() (int64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

// numbers returns the next three.
func (r partReader) numbers() (a, b, c int64, err error) {
	if a, err = r.number(); err == nil {
		b, err = r.number()
	}
	if err == nil {
		c, err = r.number()
	}
	return a, b, c, err
}

// sendParts decompresses frames and sends what is in them.
func sendParts(blob, parts *os.File, out *sender) error {
	z, err := frames.NewInflater()
	if err != nil {
		return err
	}
	defer z.Close()
	in := partReader{bufio.NewReader(parts)}
	for {
		index, size, count, err := in.numbers()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = out.file(int(index), size)
		}
		for ; err == nil && count > 0; count-- {
			err = sendFrame(blob, in, z, out)
		}
		if err != nil {
			return err
		}
	}
	if err := out.send(sendsRecord, nil); err != nil {
		return err
	}
	return out.out.Flush()
}

// sendFrame sends the content of the next frame.
func sendFrame(blob *os.File, in partReader, z *frames.Inflater, out *sender) error {
	offset, length, size, err := in.numbers()
	if err != nil {
		return err
	}
	packed := make([]byte, length)
	if _, err := blob.ReadAt(packed, offset); err != nil {
		return fmt.Errorf("cannot read frame: %w", err)
	}
	content, err := z.Inflate(packed, size)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return err
}
