package publish

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"stork/nestd/api"
	"stork/repo"
	upload "stork/repo/api"
)

// web talks to the repository's server. It is a signing.Source and an
// index.Source.
type web struct {
	client *http.Client
	base   string
}

// maxErrorBody bounds what is read of an error answer, in bytes.
const maxErrorBody = 64 << 10

// errBusy marks failures that another try may not meet: the network's, and
// the server's own.
var errBusy = errors.New("the repository can not be reached")

func (w *web) url(path string) string {
	return strings.TrimSuffix(w.base, "/") + "/" + strings.TrimPrefix(path, "/")
}

// do sends a request and decodes the answer into out.
func (w *web) do(request *http.Request, out any) error {
	answer, err := w.client.Do(request)
	if err != nil {
		if request.Context().Err() != nil {
			return request.Context().Err()
		}
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return errorOf(answer)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, upload.MaxUploadRequest+1))
	if err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	if len(b) > upload.MaxUploadRequest {
		return fmt.Errorf("cannot read the repository's answer: over %d bytes", upload.MaxUploadRequest)
	}
	return repo.DecodeStrict(b, out)
}

// errorOf reads an error answer, or makes one of its status.
func errorOf(answer *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody))
	if err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	wire := new(api.Error)
	if json.Unmarshal(b, wire) != nil || wire.Code == "" {
		wire = &api.Error{Code: api.InternalCode, Message: "the repository answers " + answer.Status}
	}
	if answer.StatusCode >= 500 && wire.Code != api.NoSpace && wire.Code != api.Unsupported {
		return fmt.Errorf("%w: %w", errBusy, wire)
	}
	return wire
}

// begin opens an upload, or finds it again.
func (w *web) begin(ctx context.Context, role repo.Role, request upload.UploadRequest) (*upload.UploadSession, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := errors.Join(json.NewEncoder(z).Encode(request), z.Close()); err != nil {
		return nil, fmt.Errorf("cannot encode upload: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url(upload.UploadPath(role)), &body)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	session := new(upload.UploadSession)
	return session, w.do(r, session)
}

// send passes a tar stream on.
func (w *web) send(ctx context.Context, role repo.Role, session string, tar io.Reader) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url(upload.FilesPath(role, session)), tar)
	if err != nil {
		return fmt.Errorf("cannot make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-tar")
	return w.do(r, new(upload.UploadProgress))
}

// commit ends an upload.
func (w *web) commit(ctx context.Context, role repo.Role, session string) (upload.UploadResult, error) {
	var result upload.UploadResult
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url(upload.CommitPath(role, session)), nil)
	if err != nil {
		return result, fmt.Errorf("cannot make request: %w", err)
	}
	return result, w.do(r, &result)
}

// Fetch implements signing.Source.
func (w *web) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url(path), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	answer, err := w.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBusy, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errorOf(answer)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, max+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBusy, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s: over %d bytes", path, max)
	}
	return b, nil
}

// Document implements index.Source.
func (w *web) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	b, err := w.Fetch(ctx, repo.DataPath(object.Digest), object.Size)
	if err != nil {
		return nil, err
	}
	if repo.ObjectOf(b) != object {
		return nil, fmt.Errorf("cannot fetch document %s: the repository sent other content", object.Digest)
	}
	return b, nil
}
