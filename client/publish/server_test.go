package publish_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/client/publish"
	"stork/nestd/api"
	"stork/repo"
	upload "stork/repo/api"
	"stork/repo/durable"
	"stork/signing/author"
)

// world is a repository in this process: real metadata over real HTTP, the
// upload protocol without the real server's checks of content, and a publisher.
type world struct {
	t          *testing.T
	dir        string
	repository *author.Repository
	server     *httptest.Server
	identity   *author.Identity
	owner      *author.Identity
	publisher  *publish.Publisher

	mu       sync.Mutex
	sessions map[string]*session
	sent     []string                                                // digests that came in tar streams
	fail     func(step string, w http.ResponseWriter) (handled bool) // faults; may be nil
}

type session struct {
	role     []byte
	declared map[repo.Digest]upload.Object
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), sessions: map[string]*session{}}
	now := time.Now()
	tree, offline, online := w.path("tree"), w.path("offline"), w.path("online")
	root, err := author.InitRepository(author.InitOptions{Tree: tree, OfflineDir: offline, OnlineDir: online})
	w.must(err)
	w.repository, err = author.OpenRepository(tree, online, durable.Disk{}, time.Now)
	w.must(err)
	alice := repo.Publisher("alice")
	w.identity, err = author.CreateIdentity(durable.Disk{}, w.path("keys"), alice.PublisherRole(), now)
	w.must(err)
	w.owner, err = author.CreateIdentity(durable.Disk{}, w.path("keys"), alice.OwnerRole(), now)
	w.must(err)
	w.must(w.repository.AddIdentity(offline, author.NewBundle(w.identity, w.owner)))
	w.server = httptest.NewServer(w.handler())
	t.Cleanup(w.server.Close)
	w.publisher = w.newPublisher("publisher")
	if root != w.repository.Root() {
		t.Fatalf("root is %s, then %s", root, w.repository.Root())
	}
	return w
}

func (w *world) newPublisher(dir string) *publish.Publisher {
	return &publish.Publisher{Dir: w.path(dir), Identity: w.identity,
		Repository: api.RepositoryPin{Root: w.repository.Root(), URL: w.server.URL}}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload/{role}", w.begin)
	mux.HandleFunc("POST /upload/{role}/{session}/files", w.files)
	mux.HandleFunc("POST /upload/{role}/{session}/commit", w.commit)
	mux.Handle("GET /", http.FileServer(http.Dir(w.path("tree"))))
	return mux
}

func (w *world) faulty(step string, rw http.ResponseWriter) bool {
	return w.fail != nil && w.fail(step, rw)
}

func refuse(rw http.ResponseWriter, code api.Code, message string) {
	rw.WriteHeader(code.Status())
	json.NewEncoder(rw).Encode(api.Error{Code: code, Message: message})
}

func (w *world) begin(rw http.ResponseWriter, r *http.Request) {
	if w.faulty("begin", rw) {
		return
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		refuse(rw, api.BadRequest, err.Error())
		return
	}
	b, err := io.ReadAll(z)
	if err != nil {
		refuse(rw, api.BadRequest, err.Error())
		return
	}
	var request upload.UploadRequest
	if err := repo.DecodeStrict(b, &request); err != nil {
		refuse(rw, api.BadRequest, err.Error())
		return
	}
	if _, err := w.repository.VerifyRole(repo.Role(r.PathValue("role")), request.Role); err != nil {
		refuse(rw, api.Conflict, err.Error())
		return
	}
	s := &session{role: request.Role, declared: map[repo.Digest]upload.Object{}}
	for _, o := range request.Objects {
		s.declared[o.Digest] = o
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions["s1"] = s
	rw.WriteHeader(http.StatusCreated)
	json.NewEncoder(rw).Encode(upload.UploadSession{Session: "s1", Missing: w.missing(s)})
}

func (w *world) missing(s *session) []repo.Digest {
	missing := []repo.Digest{}
	for digest, o := range s.declared {
		if info, err := os.Stat(w.objectPath(o)); err != nil || info.Size() != o.Size {
			missing = append(missing, digest)
		}
	}
	return missing
}

func (w *world) objectPath(o upload.Object) string {
	if o.Kind == upload.Blob {
		return filepath.Join(w.path("tree"), repo.BlobPath(o.Digest))
	}
	return filepath.Join(w.path("tree"), repo.DataPath(o.Digest))
}

func (w *world) files(rw http.ResponseWriter, r *http.Request) {
	if w.faulty("files", rw) {
		return
	}
	w.mu.Lock()
	s := w.sessions[r.PathValue("session")]
	w.mu.Unlock()
	in := tar.NewReader(r.Body)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = w.store(s, header, in)
		}
		if err != nil {
			refuse(rw, api.Untrusted, err.Error())
			return
		}
		if w.faulty("file", rw) {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	json.NewEncoder(rw).Encode(upload.UploadProgress{Missing: w.missing(s)})
}

func (w *world) store(s *session, header *tar.Header, in io.Reader) error {
	digest, err := repo.ParseHex(header.Name)
	if err != nil {
		return err
	}
	o, ok := s.declared[digest]
	b, err := io.ReadAll(in)
	if err != nil || !ok || repo.ObjectOf(b) != (repo.Object{Digest: o.Digest, Size: o.Size}) {
		return errors.New("not what was declared")
	}
	if err := os.MkdirAll(filepath.Dir(w.objectPath(o)), 0o755); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, header.Name)
	return os.WriteFile(w.objectPath(o), b, 0o644)
}

func (w *world) commit(rw http.ResponseWriter, r *http.Request) {
	if w.faulty("commit", rw) {
		return
	}
	w.mu.Lock()
	s := w.sessions[r.PathValue("session")]
	missing := w.missing(s)
	w.mu.Unlock()
	role := repo.Role(r.PathValue("role"))
	if len(missing) > 0 {
		refuse(rw, api.BadRequest, "objects are missing")
		return
	}
	parsed, err := w.repository.VerifyRole(role, s.role)
	if err == nil {
		err = w.repository.Publish(context.Background(), role, s.role)
	}
	if err != nil {
		refuse(rw, api.Conflict, err.Error())
		return
	}
	if w.faulty("committed", rw) {
		return
	}
	json.NewEncoder(rw).Encode(upload.UploadResult{Snapshot: 1, Version: parsed.Version})
}

// hangUp breaks the connection without an answer.
func hangUp(rw http.ResponseWriter) {
	conn, _, err := rw.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }
