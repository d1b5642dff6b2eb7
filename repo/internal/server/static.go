package server

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"stork/repo"
)

// served matches the paths of the static tree: nothing else in the directory
// is shown, temporary files and listings included.
var served = regexp.MustCompile(`^(?:metadata/(?:timestamp|[1-9][0-9]{0,17}\.[a-z0-9-]{1,34})\.json|` +
	`keys/[a-z0-9-]{1,34}/[1-9][0-9]{0,17}\.json|(?:data|blobs|packs|frames)/[0-9a-f]{2}/[0-9a-f]{64}|` +
	`deltas/[0-9a-f]{2}/[0-9a-f]{64}-[0-9a-f]{64})$`)

// How long caches may keep what they were given.
const (
	immutable    = "public, max-age=31536000, immutable"
	revalidate   = "no-cache" // kept, but asked for each time
	cacheNothing = "no-store"
)

// serveTree serves a file of the static tree.
func (s *Server) serveTree(w http.ResponseWriter, r *http.Request) {
	p := strings.TrimPrefix(r.URL.Path, "/")
	kind := kindOf(p)
	if kind == "blobs" && r.Method == http.MethodGet {
		s.counters.blobRequests.Add(1)
	}
	paced := s.pace(w, kind)
	if !served.MatchString(p) {
		notFound(paced)
		return
	}
	header := paced.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if p == repo.TimestampPath {
		s.serveTimestamp(paced, r)
		return
	}
	local, err := filepath.Localize(p)
	if err != nil {
		notFound(paced)
		return
	}
	f, err := s.tree.Open(local)
	if errors.Is(err, fs.ErrNotExist) {
		notFound(paced)
		return
	}
	if err != nil {
		s.fail(paced, r, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		notFound(paced)
		return
	}
	header.Set("Content-Type", contentType(p))
	header.Set("Cache-Control", immutable)
	s.serveFile(paced, r, p, f, info)
}

// serveFile serves an open file, compressed where that pays. The compressed
// form has a tag of its own (RFC 9110, 8.8.3).
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, p string, f *os.File, info fs.FileInfo) {
	header, tag := w.Header(), entityTag(p, info)
	compressible := contentType(p) == jsonType && info.Size() >= compressFrom && info.Size() <= compressTo
	if compressible {
		header.Set("Vary", "Accept-Encoding")
	}
	if compressible && acceptsGzip(r) {
		b, err := s.compressor.gzipped(r.Context(), p+" "+tag, f, info.Size())
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if b != nil {
			header.Set("ETag", strconv.Quote(tag+"-gzip"))
			header.Set("Content-Encoding", "gzip")
			header.Set("Content-Length", strconv.Itoa(len(b))) // which ServeContent leaves to us
			http.ServeContent(w, r, "", info.ModTime(), bytes.NewReader(b))
			return
		}
	}
	header.Set("ETag", strconv.Quote(tag))
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// serveTimestamp serves the one file that changes. It is read whole first,
// so that its tag is that of the bytes that follow.
func (s *Server) serveTimestamp(w http.ResponseWriter, r *http.Request) {
	b, err := s.tree.ReadFile(filepath.FromSlash(repo.TimestampPath))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", contentType(repo.TimestampPath))
	header.Set("Cache-Control", revalidate)
	header.Set("ETag", strconv.Quote(repo.DigestOf(b).Hex()))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// entityTag names a file's content: by its digest where that is its name. A
// version of metadata is written once, but may have been written again
// before anything named it (P4).
func entityTag(p string, info fs.FileInfo) string {
	name := path.Base(p)
	if _, err := repo.ParseHex(name); err == nil {
		return name
	}
	return strconv.FormatInt(info.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(info.Size(), 36)
}

const jsonType = "application/json"

func contentType(p string) string {
	for _, dir := range []string{"blobs/", "packs/", "deltas/", "frames/"} {
		if strings.HasPrefix(p, dir) {
			return "application/octet-stream"
		}
	}
	return jsonType
}

// notFound answers for a file that is not there. It may be there soon: the
// next root, or the next key document.
func notFound(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", cacheNothing)
	http.Error(w, "not found", http.StatusNotFound)
}
