package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"stork/nestd/confine"
	"stork/repo"
)

// Options say how a child is started and what it may return.
type Options struct {
	Exe      string   // the program whose main calls Main
	Args     []string // what makes it do so
	UID, GID int      // whom the child runs as: see confine.User
	Log      *slog.Logger

	// From the verified record: bytes of all files, and of the file list.
	InstalledSize int64
	FileListSize  int64
}

// Result is what the child read in the package, unverified.
type Result struct {
	Record   []byte // canonical JSON of the repo.Record
	FileList []byte // canonical JSON of the repo.FileList
}

// ErrBlob says that the blob is not what its digest and size say: the copy is
// to be thrown away and fetched again. ErrPackage says that the blob is the
// right one but can not be unpacked.
var (
	ErrBlob    = errors.New("not the blob that was asked for")
	ErrPackage = errors.New("package can not be unpacked")
)

// Run unpacks the package that blob yields into filesDir, an empty directory
// that belongs to the child's user. progress is called with the number of
// bytes read so far; it may be nil. Run returns when no process of the child
// is left.
func Run(ctx context.Context, o Options, blob io.Reader, want repo.Object, filesDir string,
	progress func(int64)) (*Result, error) {
	allowed := timeFor(want.Size, o.InstalledSize)
	ctx, cancel := context.WithTimeoutCause(ctx, allowed, fmt.Errorf("took longer than %v", allowed))
	defer cancel()
	j, err := start(ctx, o, filesDir, allowed)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack %s: %w", want.Digest.Short(), err)
	}
	fed := feed(ctx, j.blob, blob, want, progress)
	if fed != nil {
		j.process.Kill()
	}
	answer := <-j.answer
	ended := j.process.Wait()
	if err := j.outcome(ctx, fed, answer, ended); err != nil {
		return nil, fmt.Errorf("cannot unpack %s: %w", want.Digest.Short(), err)
	}
	return &answer.result, nil
}

// timeFor bounds the work on a package, of which 1 MB/s is expected of the
// slowest machine with the slowest compression.
func timeFor(blob, installed int64) time.Duration {
	return time.Minute + time.Duration((blob+installed)>>20)*time.Second
}

// job is a running child and the parent's ends of its pipes.
type job struct {
	process *confine.Process
	blob    *os.File    // written to by feed, which closes it
	answer  chan answer // one comes when the child has closed its end
	stderr  *tail
}

func start(ctx context.Context, o Options, filesDir string, allowed time.Duration) (*job, error) {
	if uid, _ := confine.User(o.UID, o.GID); uid != o.UID && o.Log != nil {
		o.Log.Debug("unpacking as the nest's own user: there is no other")
	}
	dir, err := os.Open(filesDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	blobRead, blobWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer blobRead.Close()
	answerRead, answerWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, blobWrite.Close())
	}
	defer answerWrite.Close()
	j := &job{blob: blobWrite, answer: make(chan answer, 1), stderr: &tail{}}
	child := confine.Child{
		Exe:  o.Exe,
		Args: append(append([]string{}, o.Args...), strconv.FormatInt(o.InstalledSize, 10), strconv.Itoa(int(allowed/time.Second))),
		UID:  o.UID, GID: o.GID,
		Stdin: blobRead, Stderr: j.stderr,
		Files: []*os.File{answerWrite, dir},
	}
	if j.process, err = child.Start(ctx); err != nil {
		return nil, errors.Join(err, blobWrite.Close(), answerRead.Close())
	}
	go func() {
		defer answerRead.Close()
		j.answer <- readAnswer(answerRead, o.FileListSize)
		// A child that says more than it should must not block on it.
		j.process.Kill()
	}()
	return j, nil
}

// outcome says which of the things that went wrong is the cause.
func (j *job) outcome(ctx context.Context, fed error, answer answer, ended error) error {
	switch {
	case fed != nil:
		return fed // wraps ErrBlob, or is the reader's own error
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case answer.refused != "":
		return fmt.Errorf("%w: %s", ErrPackage, answer.refused)
	case errors.Is(answer.err, io.EOF) && ended != nil:
		return fmt.Errorf("%w: the unpacker ended early: %w%s", ErrPackage, ended, j.stderr)
	case answer.err != nil:
		return fmt.Errorf("%w: the unpacker gave no answer: %w", ErrPackage, answer.err)
	}
	return nil
}

// feed passes the blob on to the child and hashes it, and closes to. Whether
// the child takes it is the child's affair: the whole blob is read and hashed
// in any case, so that a damaged copy is never taken for a bad package.
func feed(ctx context.Context, to *os.File, blob io.Reader, want repo.Object, progress func(int64)) error {
	h := newBlobHash(want)
	buffer := make([]byte, 256<<10)
	alive := true
	for {
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), to.Close())
		}
		n, err := blob.Read(buffer)
		if overflow := h.add(buffer[:n]); overflow != nil {
			return errors.Join(overflow, to.Close())
		}
		if alive {
			if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
				alive = false
			}
		}
		if progress != nil && n > 0 {
			progress(h.size)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(fmt.Errorf("cannot read blob: %w", err), to.Close())
		}
	}
	// The child may only see the end of a blob that is the right one.
	if err := h.check(); err != nil {
		return errors.Join(err, to.Close())
	}
	return to.Close()
}

// tail keeps the first bytes of what the child writes to its standard error:
// the message of a panic. It is text from a hostile source.
type tail struct{ kept bytes.Buffer }

const maxTail = 2 << 10

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	if room := maxTail - t.kept.Len(); room > 0 {
		t.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String returns the first line, harmless, behind a colon.
func (t *tail) String() string {
	line, _, _ := strings.Cut(t.kept.String(), "\n")
	if line == "" {
		return ""
	}
	return ": " + printable(line)
}

// printable makes text of a hostile source safe to show and to log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
