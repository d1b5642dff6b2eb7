package server

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"stork/repo"
	"stork/repo/api"
)

// serveWarm tells nests what to fetch beforehand.
func (s *Server) serveWarm(w http.ResponseWriter, r *http.Request) {
	paced := s.pace(w, "other")
	packages, err := s.home.Warm()
	var b []byte
	if err == nil {
		b, err = repo.EncodeCanonical(api.WarmList{Packages: append([]api.WarmPackage{}, packages...)})
	}
	if err != nil {
		s.fail(paced, r, err)
		return
	}
	header := paced.Header()
	header.Set("Content-Type", jsonType)
	header.Set("Cache-Control", revalidate)
	header.Set("ETag", strconv.Quote(repo.DigestOf(b).Hex()))
	http.ServeContent(paced, r, "", time.Time{}, bytes.NewReader(b))
}
