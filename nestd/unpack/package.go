package unpack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/confine"
	"stork/repo"
)

// Options say how a child is started and what it may return.
type Options struct {
	Exe      string   // the program whose main calls Main
	Args     []string // what makes it do so
	UID, GID int      // whom the child runs as: see confine.User
	Log      *slog.Logger

	// From the verified record: bytes of all files, and of the file list, of
	// which no more than repo.MaxFileList may come whatever the record says.
	InstalledSize int64
	FileListSize  int64
}

// ErrBlob says that the blob is not what its digest and size say: the copy is
// to be thrown away and fetched again. ErrPackage says that the blob is the
// right one but can not be unpacked.
var (
	ErrBlob    = errors.New("not the blob that was asked for")
	ErrPackage = errors.New("package can not be unpacked")
)

// Package is a package in the course of being unpacked. It is read like an
// archive: Next, Read, Next …; one goroutine at a time uses it.
type Package struct {
	ctx    context.Context
	cancel context.CancelFunc
	blob   *os.File
	want   repo.Object

	process *confine.Process
	pipe    *os.File
	in      *receiver
	stderr  *tail

	parts        *os.File // which frames to read; nil: the blob is a package
	list, record []byte
	left         int64 // bytes of content that may still come
	file         int64 // of these, of the current file
	chunk        int64 // of these, in the current message
	err          error // how it ended: io.EOF when it ended well
}

// Open starts a child on the blob, of which it uses neither offset nor right
// to write, and reads the file list. The caller closes the package.
func Open(ctx context.Context, o Options, blob *os.File, want repo.Object) (*Package, error) {
	allowed := timeFor(want.Size, o.InstalledSize, o.FileListSize)
	ctx, cancel := context.WithTimeoutCause(ctx, allowed, fmt.Errorf("took longer than %v", allowed))
	p := &Package{ctx: ctx, cancel: cancel, blob: blob, want: want, stderr: &tail{}, left: o.InstalledSize}
	if err := p.start(o, allowed); err != nil {
		cancel()
		return nil, p.explain(err)
	}
	var err error
	if p.list, err = p.in.whole(sendsList, min(o.FileListSize, repo.MaxFileList)); err != nil {
		return nil, errors.Join(p.fail(err), p.Close())
	}
	return p, nil
}

// timeFor bounds the work on a package, the caller's writing included. Of the
// slowest machine, with the slowest compression and disk, 1 MB/s is expected,
// and 128 KB of file list: some 900 files, each made and linked.
func timeFor(blob, installed, list int64) time.Duration {
	seconds := blob>>20 + installed>>20 + list>>17
	return time.Minute + time.Duration(min(seconds, maxSeconds))*time.Second
}

// maxSeconds is a week: a sum beyond is nothing but a number in a record.
const maxSeconds = 7 * 24 * 60 * 60

func (p *Package) start(o Options, allowed time.Duration) error {
	if uid, _ := confine.User(o.UID, o.GID); uid != o.UID && o.Log != nil {
		o.Log.Debug("unpacking as the nest's own user: there is no other")
	}
	blob, err := readOnly(p.blob)
	if err != nil {
		return err
	}
	defer blob.Close()
	answer, answerWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answerWrite.Close()
	// Best effort: a larger pipe is a matter of speed.
	_, _ = unix.FcntlInt(answerWrite.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	p.pipe, p.in = answer, newReceiver(answer)
	child := confine.Child{
		Exe:  o.Exe,
		Args: append(append([]string{}, o.Args...), strconv.Itoa(int(allowed/time.Second))),
		UID:  o.UID, GID: o.GID,
		Stdin: blob, Stderr: p.stderr,
		Files: []*os.File{answerWrite},
	}
	if p.parts != nil {
		child.Args, child.Files = append(child.Args, partsArg), append(child.Files, p.parts)
	}
	if p.process, err = child.Start(p.ctx); err != nil {
		return errors.Join(err, answer.Close())
	}
	return nil
}

const pipeSize = 1 << 20

// readOnly opens the file again, for the child: with an offset of its own,
// and no right to write to what the daemon may have open for writing.
func readOnly(f *os.File) (*os.File, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// FileList returns the canonical JSON of a repo.FileList, unverified.
func (p *Package) FileList() []byte { return p.list }

// Record returns the canonical JSON of a repo.Record, unverified, once Next
// has returned io.EOF.
func (p *Package) Record() []byte { return p.record }

// Next moves to the next file, skipping what is left of the current one, and
// returns its place in the file list and its size in bytes; io.EOF after the
// last one.
func (p *Package) Next() (index int, size int64, err error) {
	for p.err == nil && p.file > 0 {
		if err := p.nextChunk(); err != nil {
			return 0, 0, err
		}
		n, err := p.in.in.Discard(int(min(p.chunk, math.MaxInt32)))
		if p.took(n); err != nil {
			return 0, 0, p.fail(errCut)
		}
	}
	if p.err != nil {
		return 0, 0, p.err
	}
	kind, length, err := p.in.next(sendsFile, sendsRecord)
	if err != nil {
		return 0, 0, p.fail(err)
	}
	if kind == sendsRecord {
		return 0, 0, p.finish(length)
	}
	return p.nextFile(length)
}

func (p *Package) nextFile(length uint64) (index int, size int64, err error) {
	text, err := p.in.text(length, fileSize)
	if err != nil {
		return 0, 0, p.fail(err)
	}
	if len(text) != fileSize {
		return 0, 0, p.fail(errCut)
	}
	place, bytes := binary.BigEndian.Uint64(text), binary.BigEndian.Uint64(text[8:])
	if place > math.MaxInt32 || bytes > uint64(p.left) {
		return 0, 0, p.fail(errors.New("files have more bytes than the record says"))
	}
	p.file = int64(bytes)
	return int(place), p.file, nil
}

// finish takes the record, and sees the child off.
func (p *Package) finish(length uint64) error {
	var err error
	if p.record, err = p.in.text(length, repo.MaxRecord); err != nil {
		return p.fail(err)
	}
	p.err = io.EOF
	if err := p.Close(); err != nil {
		p.err = err
	}
	return p.err
}

// nextChunk makes sure that some content of the current file follows.
func (p *Package) nextChunk() error {
	if p.chunk > 0 {
		return nil
	}
	_, length, err := p.in.next(sendsContent)
	if err != nil {
		return p.fail(err)
	}
	if length == 0 || length > uint64(p.file) {
		return p.fail(errOrder)
	}
	p.chunk = int64(length)
	return nil
}

func (p *Package) took(n int) {
	p.chunk -= int64(n)
	p.file -= int64(n)
	p.left -= int64(n)
}

// Read implements [io.Reader] on the content of the current file.
func (p *Package) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.file == 0 {
		return 0, io.EOF
	}
	if err := p.nextChunk(); err != nil {
		return 0, err
	}
	n, err := p.in.in.Read(b[:min(int64(len(b)), p.chunk)])
	if p.took(n); err != nil {
		return n, p.fail(errCut)
	}
	return n, nil
}

// Close ends the child, if it has not ended, and returns when no process of
// it is left.
func (p *Package) Close() error {
	if p.err == nil {
		p.err = os.ErrClosed
	}
	p.process.Kill()
	_ = p.process.Wait() // how it ended matters to fail only
	p.cancel()
	if err := p.pipe.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// fail ends the unpacking and says which of the things that went wrong is the
// cause.
func (p *Package) fail(cause error) error {
	p.process.Kill() // if it lives: it may have more to say than anybody wants to hear
	ended := p.process.Wait()
	p.err = p.explain(p.cause(cause, ended))
	return p.err
}

func (p *Package) cause(cause, ended error) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	if p.parts == nil {
		if err := checkBlob(p.ctx, p.blob, p.want); err != nil {
			return err
		}
	}
	var reason refused
	switch {
	case errors.As(cause, &reason):
		return fmt.Errorf("%w: %w", ErrPackage, reason)
	case errors.Is(cause, io.EOF) && ended != nil:
		return fmt.Errorf("%w: the unpacker ended early: %w%s", ErrPackage, ended, p.stderr)
	}
	return fmt.Errorf("%w: the unpacker gave no answer: %w%s", ErrPackage, cause, p.stderr)
}

// Blame returns err, which the caller found wrong with what the child said, or
// an [ErrBlob] in its place if that is no wonder: the blob is not the one that
// was asked for. It ends the child.
func (p *Package) Blame(ctx context.Context, err error) error {
	closeErr := p.Close()
	if blobErr := checkBlob(ctx, p.blob, p.want); blobErr != nil {
		err = p.explain(blobErr)
	}
	return errors.Join(err, closeErr)
}

func (p *Package) explain(err error) error {
	return fmt.Errorf("cannot unpack %s: %w", p.want.Digest.Short(), err)
}
