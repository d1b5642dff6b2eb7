package uploadtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	nestapi "stork/nestd/api"
	"stork/repo"
	"stork/repo/api"
)

// Client uploads to a server.
type Client struct {
	URL  string
	HTTP *http.Client
}

// Send makes a whole upload.
func (c *Client) Send(ctx context.Context, u *Upload) (api.UploadResult, error) {
	session, err := c.Open(ctx, u)
	if err != nil {
		return api.UploadResult{}, err
	}
	if len(session.Missing) > 0 {
		progress, err := c.Files(ctx, u, session.Session, session.Missing)
		if err != nil {
			return api.UploadResult{}, err
		}
		if len(progress.Missing) > 0 {
			return api.UploadResult{}, fmt.Errorf("%d objects are missing after all were sent", len(progress.Missing))
		}
	}
	return c.Commit(ctx, u, session.Session)
}

// Open begins an upload.
func (c *Client) Open(ctx context.Context, u *Upload) (answer api.UploadSession, err error) {
	b, err := json.Marshal(u.Request())
	if err != nil {
		return answer, err
	}
	return answer, c.post(ctx, api.UploadPath(u.Name), bytes.NewReader(b), &answer)
}

// Files sends objects.
func (c *Client) Files(ctx context.Context, u *Upload, session string, digests []repo.Digest) (answer api.UploadProgress, err error) {
	return answer, c.Stream(ctx, u.Name, session, u.Tar(digests), &answer)
}

// Stream sends a body of the caller's making.
func (c *Client) Stream(ctx context.Context, role repo.Role, session string, body io.Reader, answer any) error {
	return c.post(ctx, api.FilesPath(role, session), body, answer)
}

// Commit ends an upload.
func (c *Client) Commit(ctx context.Context, u *Upload, session string) (answer api.UploadResult, err error) {
	return answer, c.post(ctx, api.CommitPath(u.Name, session), nil, &answer)
}

func (c *Client) post(ctx context.Context, path string, body io.Reader, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+path, body)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		wire := new(nestapi.Error)
		if err := json.Unmarshal(b, wire); err != nil {
			return fmt.Errorf("status %d: %q", response.StatusCode, b)
		}
		return wire
	}
	return json.Unmarshal(b, answer)
}

// Tar streams objects of the upload.
func (u *Upload) Tar(digests []repo.Digest) io.Reader {
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		for _, d := range digests {
			if err := Member(archive, d.Hex(), u.Content[d]); err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(archive.Close())
	}()
	return r
}

// Member writes one member of an archive.
func Member(archive *tar.Writer, name string, content []byte) error {
	err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = archive.Write(content)
	}
	return err
}
