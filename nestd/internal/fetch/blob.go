package fetch

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
)

// open wires the methods of this nest.
func (w *worker) open(c *Config, spool *os.Root) {
	https := web.New(web.Options{Name: "https", Client: w.client, Connections: c.Connections})
	var lanes []transfer.Lane
	if w.peers != nil {
		lanes = append(lanes, transfer.Lane{Method: w.peers.Method(), Stall: peerStall})
	}
	// Web servers come last, and watch their own progress.
	lanes = append(lanes, transfer.Lane{Method: https})
	w.scheduler = transfer.NewScheduler(transfer.Options{
		Spool: spool, Progress: minProgress, Jobs: maxTransfers, Limits: w.limits, Log: w.log, Lanes: lanes,
	})
}

// peerStall is how long peers, who are near, may bring nothing before the
// repository is asked too.
const peerStall = 2 * time.Second

// How many blobs are fetched at a time for nobody in particular, and how many
// bytes are progress.
const (
	maxTransfers = 16
	minProgress  = 16 << 10
)

// fewSources are told of while a blob is on its way, so that little is lost
// with a child that dies; more only at the end.
const fewSources = 16

// serveBlob streams progress while it fetches.
func (w *worker) serveBlob(out http.ResponseWriter, in *http.Request) {
	var request blobRequest
	if !decodeRequest(out, in, &request) {
		return
	}
	lines := json.NewEncoder(out)
	flush := http.NewResponseController(out)
	tell := func(e blobEvent) {
		// A daemon that is gone has cancelled in.Context; nothing to do here.
		if lines.Encode(e) == nil {
			_ = flush.Flush()
		}
	}
	order := transfer.Order{Object: request.Object, Places: request.Places, Priority: request.Priority}
	got, err := w.scheduler.Fetch(in.Context(), order, func(p transfer.Progress) {
		e := blobEvent{Done: p.Stored, Fetched: p.Received, Peers: p.Peers}
		if len(p.Ledger) <= fewSources {
			e.Sources = p.Ledger
		}
		tell(e)
	})
	last := blobEvent{Done: got.Stored, Fetched: got.Received, Sources: got.Ledger, Result: resultOf(err)}
	if err != nil {
		last.Message = err.Error()
	}
	tell(last)
}

// resultOf is how the child tells the daemon how a blob request ended.
func resultOf(err error) blobResult {
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return resultNoSpace
	case errors.As(err, new(*transfer.SpoolError)):
		return resultFailed
	case errors.Is(err, fs.ErrNotExist):
		return resultAbsent
	case errors.Is(err, transfer.ErrMismatch):
		return resultMismatch
	}
	return resultUnreachable
}
