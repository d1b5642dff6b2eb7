package server

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"time"

	"stork/nestd/api"
	"stork/repo"
)

// uploadHandler handles a request below /upload/. What it returns is the
// answer.
type uploadHandler func(r *http.Request, role repo.Role, body io.Reader) (status int, answer any, err error)

// upload wraps what all upload requests have in common: few at a time, a
// role in the path, a client that must not be too slow, an error that is a
// document.
func (s *Server) upload(handle uploadHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.uploads <- struct{}{}:
			defer func() { <-s.uploads }()
		default:
			writeError(w, &api.Error{Code: api.Unreachable, Message: "cannot take the upload: too many are under way", Hint: "Try again in a while."})
			return
		}
		role, err := repo.ParseRole(r.PathValue("role"))
		if err != nil {
			writeError(w, &api.Error{Code: api.BadRequest, Message: err.Error()})
			return
		}
		status, answer, err := handle(r, role, s.pacedBody(w, r))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		// What was read or verified took its time; the answer gets its own.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.Grace))
		writeJSON(w, status, answer)
	}
}

func (s *Server) openUpload(r *http.Request, role repo.Role, body io.Reader) (int, any, error) {
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return 0, nil, &api.Error{Code: api.BadRequest, Message: "cannot read the request: " + err.Error()}
		}
		defer unzipped.Close()
		body = unzipped
	}
	session, err := s.ingest.Open(r.Context(), role, body)
	return http.StatusCreated, session, err
}

func (s *Server) receiveFiles(r *http.Request, role repo.Role, body io.Reader) (int, any, error) {
	progress, err := s.ingest.Receive(r.Context(), role, r.PathValue("session"), body)
	return http.StatusOK, progress, err
}

func (s *Server) commitUpload(r *http.Request, role repo.Role, body io.Reader) (int, any, error) {
	if n, err := io.CopyN(io.Discard, body, 1); n > 0 || !errors.Is(err, io.EOF) {
		return 0, nil, &api.Error{Code: api.BadRequest, Message: "cannot commit: a commit has no body"}
	}
	result, err := s.ingest.Commit(r.Context(), role, r.PathValue("session"))
	return http.StatusOK, result, err
}
