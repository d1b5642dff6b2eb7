package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/klauspost/compress/zstd"

	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// serveGet passes a small file through.
func (w *worker) serveGet(out http.ResponseWriter, in *http.Request) {
	var request getRequest
	if !decodeRequest(out, in, &request) {
		return
	}
	if request.Digest != nil && w.peers != nil {
		if text, ok := w.peers.Document(in.Context(), *request.Digest, request.Max); ok {
			// A daemon that is gone is not to be told.
			_, _ = out.Write(text)
			return
		}
	}
	ctx, watch := w.client.Watch(in.Context())
	defer watch.Stop()
	answer, err := w.client.Get(ctx, request.URL, http.Header{"If-None-Match": etags(request.ETag)})
	if err != nil {
		if text, ok := w.fromMirrors(in.Context(), &request, err); ok {
			_, _ = out.Write(text)
			return
		}
		http.Error(out, web.Cause(ctx, err).Error(), statusOf(err))
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotModified && request.ETag != "" {
		out.WriteHeader(http.StatusNotModified)
		return
	}
	if answer.StatusCode != http.StatusOK {
		http.Error(out, "HTTP status "+answer.Status, http.StatusBadGateway)
		return
	}
	if answer.ContentLength > request.Max && !request.Zstd {
		http.Error(out, fmt.Sprintf("larger than %d bytes", request.Max), http.StatusRequestEntityTooLarge)
		return
	}
	if tag := answer.Header.Get("ETag"); tag != "" && len(tag) < 1024 {
		out.Header().Set("ETag", tag)
	}
	if err := pass(out, watch.Reader(answer.Body), request); err != nil {
		w.log.Info("fetch interrupted", "url", request.URL, "err", web.Cause(ctx, err))
		panic(http.ErrAbortHandler) // the daemon must not take half a file for a whole one
	}
}

// fromMirrors gets a file that never changes when the repository does not
// answer. That it has none is an answer.
func (w *worker) fromMirrors(ctx context.Context, request *getRequest, err error) ([]byte, bool) {
	if request.Digest == nil || errors.Is(err, fs.ErrNotExist) || len(request.Mirrors) == 0 {
		return nil, false
	}
	text, err := w.anyOf(ctx, repo.Object{Digest: *request.Digest, Size: request.Max}, request.Mirrors)
	return text, err == nil
}

// maxWindow bounds the memory that a zstd stream may ask for, in bytes.
const maxWindow = 128 << 20

// pass copies the file, and one byte over the limit to tell the daemon that
// there is more. Decompressing is done here, so that the daemon need not.
func pass(out io.Writer, body io.Reader, request getRequest) error {
	if request.Zstd {
		stream, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer stream.Close()
		body = stream
	}
	_, err := io.Copy(out, io.LimitReader(body, request.Max+1))
	return err
}

func etags(tag string) []string {
	if tag == "" {
		return nil
	}
	return []string{tag}
}

// statusOf is how the child tells the daemon why a get failed.
func statusOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return http.StatusNotFound
	}
	return http.StatusBadGateway
}
