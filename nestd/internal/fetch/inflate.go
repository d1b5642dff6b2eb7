package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"stork/repo/delta"
)

// inflateRoute decompresses a frame of a delta. The body is the dictionary,
// as many bytes as the query's dictionary says, and then the frame; the answer
// is what is in the frame, at most as many bytes as the query's size says, or
// 422 and a message. It is a route of its own because the daemon, which has the
// dictionary, learns only from one frame what the dictionary of the next one
// is; and so the child keeps nothing from one frame to the next.
const inflateRoute = "/inflate"

// Inflate decompresses a frame of a delta to at most size bytes, in the child:
// the daemon decompresses nothing that comes from outside. It is not tried
// again if the child dies of it.
func (f *Fetcher) Inflate(ctx context.Context, frame, dictionary []byte, size int64) ([]byte, error) {
	query := url.Values{"dictionary": {strconv.Itoa(len(dictionary))}, "size": {strconv.FormatInt(size, 10)}}
	body := append(dictionary[:len(dictionary):len(dictionary)], frame...)
	var content []byte
	err := f.askOnce(ctx, inflateRoute+"?"+query.Encode(), body, func(answer *http.Response) (err error) {
		if answer.StatusCode != http.StatusOK {
			return errors.New(message(answer.Body))
		}
		content, err = io.ReadAll(io.LimitReader(answer.Body, size))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	return content, nil
}

// serveInflate is the child's side.
func serveInflate(out http.ResponseWriter, in *http.Request) {
	query := in.URL.Query()
	length, lengthErr := strconv.Atoi(query.Get("dictionary"))
	size, sizeErr := strconv.ParseInt(query.Get("size"), 10, 64)
	body, err := io.ReadAll(http.MaxBytesReader(out, in.Body, delta.MaxGroup+delta.MaxSize))
	if err = errors.Join(err, lengthErr, sizeErr); err == nil && (length < 0 || length > len(body)) {
		err = errors.New("the dictionary is longer than the request")
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	content, err := delta.Inflate(body[length:], body[:length], size)
	if err != nil {
		http.Error(out, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	_, _ = out.Write(content) // a daemon that is gone needs no answer
}
