package web

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// Document gets a small file by its digest, of at most o.Size bytes, which is
// checked. Other errors are those of Get.
func (c *Client) Document(ctx context.Context, address string, o repo.Object) ([]byte, error) {
	ctx, watch := c.Watch(ctx)
	defer watch.Stop()
	answer, err := c.Get(ctx, address, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, &PermanentError{answer.Status}
	}
	if answer.ContentLength > o.Size {
		return nil, fmt.Errorf("%w: it has %d bytes", transfer.ErrMismatch, answer.ContentLength)
	}
	text, err := io.ReadAll(io.LimitReader(watch.Reader(answer.Body), o.Size+1))
	if err != nil {
		return nil, Cause(ctx, err)
	}
	if int64(len(text)) > o.Size || repo.DigestOf(text) != o.Digest {
		return nil, transfer.ErrMismatch
	}
	return text, nil
}
