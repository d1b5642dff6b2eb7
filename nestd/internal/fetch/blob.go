package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

var (
	errMismatch = errors.New("the content does not match its digest")
	errEndless  = errors.New("the server sends more than the blob has")
)

// maxTries bounds the tries of one blob even if each brings a byte.
const maxTries = 200

// blobJob brings one blob into the spool. The file is named by the digest;
// what an earlier job, child or daemon has left of it is gone on with.
type blobJob struct {
	worker  *worker
	request blobRequest
	tell    func(blobEvent)

	file    *os.File
	sum     hash.Hash // of the first done bytes
	done    int64
	fetched int64
	told    time.Time
}

// run returns nil when the file is whole, matches and is on its way to the
// disk.
func (j *blobJob) run(ctx context.Context) error {
	file, err := os.OpenFile(j.request.Object.Digest.Hex(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open spool file: %w", err)
	}
	defer file.Close()
	j.file = file
	if err := j.resume(); err != nil {
		return err
	}
	for mismatches := 0; ; mismatches++ {
		if err := j.fill(ctx); err != nil {
			return err
		}
		if repo.Digest(j.sum.Sum(nil)) == j.request.Object.Digest {
			return nil
		}
		if err := j.restart(); err != nil {
			return err
		}
		if mismatches > 0 {
			return errMismatch
		}
	}
}

// resume hashes what is there already.
func (j *blobJob) resume() error {
	j.sum = sha256.New()
	n, err := io.Copy(j.sum, io.LimitReader(j.file, j.request.Object.Size+1))
	if err != nil {
		return fmt.Errorf("cannot read spool file: %w", err)
	}
	if n > j.request.Object.Size {
		return j.restart()
	}
	j.done = n
	return nil
}

// restart forgets what is there.
func (j *blobJob) restart() error {
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("cannot empty spool file: %w", err)
	}
	if _, err := j.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot empty spool file: %w", err)
	}
	j.sum.Reset()
	j.done = 0
	return nil
}

// fill tries until the file has its size.
func (j *blobJob) fill(ctx context.Context) error {
	tuning := j.worker.tuning.withDefaults()
	fruitless := 0
	for try := 0; j.done < j.request.Object.Size; try++ {
		before := j.fetched
		err := j.try(ctx, tuning)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !temporary(err) {
			return err
		}
		if j.fetched-before >= tuning.MinBytes { // less, and a server could drip for ever
			fruitless = 0
		}
		fruitless++
		if fruitless >= tuning.Tries || try >= maxTries {
			return err
		}
		j.worker.log.Info("fetch interrupted", "digest", j.request.Object.Digest, "done", j.done, "err", err)
		if err := pause(ctx, tuning.Backoff, fruitless); err != nil {
			return err
		}
	}
	return nil
}

// pause sleeps between half and all of base times two to the power of n-1,
// 30 s at most, so that many nests do not come back at one moment.
func pause(ctx context.Context, base time.Duration, n int) error {
	delay := min(base<<min(n-1, 16), 30*time.Second)
	delay = delay/2 + rand.N(delay/2+1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return nil
	}
}

// try sends one request and appends what comes.
func (j *blobJob) try(ctx context.Context, tuning Tuning) error {
	ctx, seen, end := watchStall(ctx, tuning)
	defer end()
	header := http.Header{"Accept-Encoding": {"identity"}}
	if j.done > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(j.done, 10)+"-")
	}
	answer, err := j.worker.openURL(ctx, j.request.URL, header)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := j.agree(answer); err != nil {
		return err
	}
	if err := j.copy(stallReader{answer.Body, seen}); err != nil {
		return causeOf(ctx, err)
	}
	if j.done < j.request.Object.Size {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// agree makes the file's end and the answer's beginning meet.
func (j *blobJob) agree(answer *http.Response) error {
	size := j.request.Object.Size
	switch answer.StatusCode {
	case http.StatusOK:
		if answer.ContentLength >= 0 && answer.ContentLength != size {
			return fmt.Errorf("%w: the server says %d bytes, the record %d", errMismatch, answer.ContentLength, size)
		}
		if j.done > 0 { // a server without ranges
			return j.restart()
		}
		return nil
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", j.done, size-1, size)
		if got := answer.Header.Get("Content-Range"); got != want {
			return errors.Join(fmt.Errorf("the server sends range %q instead of %q", got, want), j.restart())
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errors.New("the server's file is shorter"), j.restart())
	}
	return fmt.Errorf("HTTP status %s", answer.Status)
}

// copy appends r to the file and the sum, and no byte more than the blob has.
func (j *blobJob) copy(r io.Reader) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := r.Read(buffer)
		if int64(n) > j.request.Object.Size-j.done {
			return errors.Join(errEndless, j.restart())
		}
		if n > 0 {
			if _, err := j.file.Write(buffer[:n]); err != nil {
				return &spoolError{err}
			}
			j.sum.Write(buffer[:n])
			j.done += int64(n)
			j.fetched += int64(n)
			j.report()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// report tells the daemon ten times a second at most.
func (j *blobJob) report() {
	if now := time.Now(); now.Sub(j.told) >= 100*time.Millisecond {
		j.told = now
		j.tell(blobEvent{Done: j.done, Fetched: j.fetched})
	}
}

// spoolError is a failure of our own disk, which no other try will mend.
type spoolError struct{ err error }

func (e *spoolError) Error() string { return "cannot write spool file: " + e.err.Error() }
func (e *spoolError) Unwrap() error { return e.err }

// temporary reports whether trying again may help.
func temporary(err error) bool {
	var permanent *permanentError
	var spool *spoolError
	return !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &permanent) && !errors.As(err, &spool) &&
		!errors.Is(err, errMismatch) && !errors.Is(err, errEndless)
}

// resultOf is how the child tells the daemon how a blob request ended.
func resultOf(err error) blobResult {
	var spool *spoolError
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return resultNoSpace
	case errors.As(err, &spool) || errors.As(err, new(*fs.PathError)):
		return resultFailed
	case errors.Is(err, fs.ErrNotExist):
		return resultAbsent
	case errors.Is(err, errMismatch) || errors.Is(err, errEndless):
		return resultMismatch
	}
	return resultUnreachable
}
