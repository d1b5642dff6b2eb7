package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"stork/nestd/api"
	"stork/repo"
)

// blob appends to file until it holds object.Size bytes, over as many
// connections as it takes while they bring something. It does not check the
// digest: who reads the file does.
func (w *web) blob(ctx context.Context, url string, object repo.Object, file *os.File, progress func(done int64)) (fetched int64, err error) {
	done, err := file.Seek(0, io.SeekEnd)
	if err == nil && done > object.Size { // no part of this blob
		done, err = 0, file.Truncate(0)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot spool blob %s: %w", object.Digest, err)
	}
	for failures, most := 0, done; done < object.Size; {
		var n int64
		done, n, err = w.part(ctx, url, object, file, done, progress)
		fetched += n
		switch {
		case err == nil:
			return fetched, nil
		case ctx.Err() != nil:
			return fetched, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return fetched, &api.Error{Code: api.NotFound, Message: "cannot fetch the package: the repository lacks it", Hint: "Tell the repository's operator."}
		}
		if wire := (*api.Error)(nil); !errors.As(err, &wire) {
			return fetched, err // the disk, not the network
		}
		if done >= most+w.patience.least { // a server that can not resume may begin again and again
			failures, most = 0, done
		}
		if failures++; failures == w.patience.tries {
			return fetched, err
		}
		if err := pause(ctx, time.Duration(failures)*w.patience.pause); err != nil {
			return fetched, err
		}
	}
	return fetched, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// part copies one answer's bytes behind those that the file has, or over
// them if the server can not resume. It returns how many the file has then,
// and how many came.
func (w *web) part(ctx context.Context, url string, object repo.Object, file *os.File, done int64, progress func(int64)) (now, n int64, err error) {
	answer, from, err := w.open(ctx, url, repo.BlobPath(object.Digest), done)
	if err != nil {
		return done, 0, err
	}
	defer answer.Body.Close()
	if from < done {
		if err := file.Truncate(from); err != nil {
			return done, 0, fmt.Errorf("cannot spool blob %s: %w", object.Digest, err)
		}
	}
	body, buffer := w.watch(answer.Body, object.Size-from), make([]byte, 256<<10)
	for {
		read, err := body.Read(buffer)
		if read > 0 {
			if _, err := file.WriteAt(buffer[:read], from+n); err != nil {
				return from + n, n, fmt.Errorf("cannot spool blob %s: %w", object.Digest, err)
			}
			n += int64(read)
			progress(from + n)
		}
		switch {
		case from+n == object.Size:
			return from + n, n, nil
		case errors.Is(err, io.EOF):
			return from + n, n, unreachable(url, io.ErrUnexpectedEOF)
		case err != nil:
			return from + n, n, unreachable(url, err)
		}
	}
}
