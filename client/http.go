package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"stork/nestd/api"
	"stork/repo"
)

// ErrDown is returned, wrapped, when nobody answers on the socket.
var ErrDown = errors.New("the nest can not be reached")

// maxError bounds the body of an error answer, and maxAnswer that of any
// other JSON answer, in bytes.
const (
	maxError  = 64 << 10
	maxAnswer = 256 << 20
)

// caller makes HTTP requests to one nest. It is safe for concurrent
// use.
type caller struct {
	conns *conns
}

func newCaller(socket string, dial func(context.Context) (net.Conn, error)) *caller {
	return &caller{&conns{socket: socket, dial: dial}}
}

// open sends a request and returns the answer if its status is 200, else the
// error that it carries.
func (c *caller) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("cannot encode request: %w", err)
		}
	}
	answer, err := c.conns.roundTrip(ctx, func() (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, method, "http://nest"+path, bytes.NewReader(encoded))
		if err == nil && body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		return request, err
	})
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		return nil, errorOf(answer)
	}
	return answer, nil
}

// transportError says that the nest is down, unless it was the caller who
// gave up.
func (c *caller) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("cannot ask the nest: %w", ctx.Err())
	}
	cause := err
	for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.ECONNREFUSED, syscall.EACCES} {
		if errors.Is(err, errno) {
			cause = errno
		}
	}
	return fmt.Errorf("cannot ask the nest at %s: %w: %v", c.conns.socket, ErrDown, cause)
}

// errorOf reads the error that an answer carries. Whoever answered without
// one is not a nest, or a broken one.
func errorOf(answer *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxError))
	wire := new(api.Error)
	if err != nil || json.Unmarshal(b, wire) != nil || wire.Code == "" {
		return &api.Error{Code: api.InternalCode, Message: "cannot read the nest's answer: HTTP status " + answer.Status}
	}
	return wire
}

// call sends a request and reads the whole answer into result, if it is not
// nil.
func (c *caller) call(ctx context.Context, method, path string, body, result any) error {
	answer, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	b, err := readBounded(answer.Body, maxAnswer)
	if err != nil {
		return c.brokenOff(ctx, err)
	}
	if result == nil {
		return nil
	}
	if err := repo.DecodeStrict(b, result); err != nil {
		return fmt.Errorf("cannot read the nest's answer: %w", err)
	}
	return nil
}

// brokenOff names an answer that ended too early.
func (c *caller) brokenOff(ctx context.Context, err error) error {
	if errors.Is(err, errTooLarge) {
		return fmt.Errorf("cannot read the nest's answer: %w", err)
	}
	return c.transportError(ctx, err)
}

var errTooLarge = errors.New("over its size limit")

// readBounded reads all of r, and fails if that is more than max bytes.
func readBounded(r io.Reader, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, errTooLarge
	}
	return b, nil
}
