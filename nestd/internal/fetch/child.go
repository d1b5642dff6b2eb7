package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/confine"
	"stork/repo"
)

// The child's inherited descriptors.
const (
	listenerFD = 3 // the unix socket that the daemon listens on
	spoolFD    = 4 // the directory it may write
	firstOther = 5
)

// The child's resource limits: it buffers little, whatever servers send.
const (
	childMemory    = 1 << 30
	childOpenFiles = 4096
)

// Child is the fetcher process: it gives up what it does not need, then
// serves until ctx ends. Config is what the daemon passed as its argument.
// Messages go to log.
func Child(ctx context.Context, config string, log *slog.Logger) error {
	var c childConfig
	if err := repo.DecodeStrict([]byte(config), &c); err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	if err := confineChild(); err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	file := os.NewFile(listenerFD, "fetcher socket")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("cannot start fetcher: inherited socket: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("cannot start fetcher: inherited socket: %w", err)
	}
	transport, err := newTransport(c)
	if err != nil {
		return fmt.Errorf("cannot start fetcher: %w", err)
	}
	worker := &worker{http: transport, tuning: c.Tuning, log: log}
	server := &http.Server{Handler: worker.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("fetcher stopped: %w", err)
	}
	return nil
}

// childConfig is the child's one argument, as JSON.
type childConfig struct {
	Proxy  string `json:"proxy,omitempty"`
	Tuning Tuning `json:"tuning"`
}

// confineChild makes the spool the working directory, so that no directory
// above it need be open to the child's user, then gives up everything else.
func confineChild() error {
	if err := confine.CloseInherited(firstOther); err != nil {
		return err
	}
	if err := unix.Fchdir(spoolFD); err != nil {
		return fmt.Errorf("cannot enter spool: %w", err)
	}
	if err := unix.Close(spoolFD); err != nil {
		return fmt.Errorf("cannot enter spool: %w", err)
	}
	if err := confine.SetLimits(confine.Limits{Memory: childMemory, FileSize: repo.MaxBlob, OpenFiles: childOpenFiles}); err != nil {
		return err
	}
	return confine.Landlock([]string{"."}, true)
}

// worker answers the daemon's requests.
type worker struct {
	http   *http.Client
	tuning Tuning
	log    *slog.Logger
}

func (w *worker) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+getRoute, w.serveGet)
	mux.HandleFunc("POST "+blobRoute, w.serveBlob)
	mux.HandleFunc("POST "+inflateRoute, serveInflate)
	return mux
}

// decodeRequest reads the daemon's request; on a bad one it has answered.
func decodeRequest(out http.ResponseWriter, in *http.Request, v any) bool {
	b, err := io.ReadAll(http.MaxBytesReader(out, in.Body, maxRequest))
	if err == nil {
		err = repo.DecodeStrict(b, v)
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// serveBlob streams progress while it fetches.
func (w *worker) serveBlob(out http.ResponseWriter, in *http.Request) {
	var request blobRequest
	if !decodeRequest(out, in, &request) {
		return
	}
	lines := json.NewEncoder(out)
	flush := http.NewResponseController(out)
	job := &blobJob{worker: w, request: request, tell: func(e blobEvent) {
		// A daemon that is gone has cancelled in.Context; nothing to do here.
		if lines.Encode(e) == nil {
			_ = flush.Flush()
		}
	}}
	err := job.run(in.Context())
	last := blobEvent{Done: job.done, Fetched: job.fetched, Result: resultOf(err)}
	if err != nil {
		last.Message = err.Error()
	}
	job.tell(last)
}
