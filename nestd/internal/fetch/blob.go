package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// open wires the methods of this nest.
func (w *worker) open(c *Config, spool *os.Root) {
	https := web.New(web.Options{Name: "https", Client: w.client, Connections: c.Connections, Places: webPlaces})
	var lanes []transfer.Lane
	if w.peers != nil {
		lanes = append(lanes, transfer.Lane{Method: w.peers.Method(), Stall: peerStall})
	}
	if w.swarm != nil {
		lanes = append(lanes, transfer.Lane{Method: w.swarm, MinSize: repo.MinSwarm + 1, Stall: swarmStall})
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
	text := w.pieces(in.Context(), &request, &order)
	got, err := w.scheduler.Fetch(in.Context(), order, func(p transfer.Progress) {
		e := blobEvent{Done: p.Stored, Fetched: p.Received, Peers: p.Peers}
		if len(p.Ledger) <= fewSources {
			e.Sources = p.Ledger
		}
		tell(e)
	})
	last := blobEvent{Done: got.Stored, Fetched: got.Received, Sources: got.Ledger, Result: resultOf(err), Info: text}
	if err != nil {
		last.Message = err.Error()
	}
	tell(last)
}

// pieces gets the hashes of a blob's pieces, and returns the dictionary that
// has them. Without them the blob can be had too, only with less.
func (w *worker) pieces(ctx context.Context, request *blobRequest, order *transfer.Order) []byte {
	if request.Info == nil || request.Info.Size > repo.MaxInfo {
		return nil
	}
	info, err := w.info(ctx, request)
	if err != nil {
		w.log.Info("fetching without pieces", "digest", request.Object.Digest, "err", err)
		return nil
	}
	order.Pieces = &transfer.Pieces{Length: info.PieceLength(), Sums: info.Pieces}
	order.Scatter = w.swarm != nil && len(request.Trackers) > 0
	order.Places = append(order.Places, trackerPlaces(request.Trackers, request.Info.Digest)...)
	if w.swarm == nil {
		return nil
	}
	return info.Encode()
}

// info gets the info dictionary of the blob's swarm, and checks that it is of
// this blob.
func (w *worker) info(ctx context.Context, request *blobRequest) (*repo.Info, error) {
	text, err := w.document(ctx, *request.Info, request.InfoPlaces)
	if err != nil {
		return nil, err
	}
	info, err := repo.DecodeInfo(text)
	if err == nil && (info.Blob != request.Object.Digest || info.Size != request.Object.Size) {
		err = errors.New("the info dictionary is another blob's")
	}
	return info, err
}

// document gets a small file from a peer or else from one of the places.
func (w *worker) document(ctx context.Context, o repo.Object, places []string) ([]byte, error) {
	if w.peers != nil {
		if text, ok := w.peers.Document(ctx, o.Digest, o.Size); ok {
			return text, nil
		}
	}
	return w.anyOf(ctx, o, places)
}

// anyOf gets a small file from the first of the places that has it.
func (w *worker) anyOf(ctx context.Context, o repo.Object, places []string) (text []byte, err error) {
	err = errNoPlace
	for _, place := range places {
		if text, err = w.client.Document(ctx, place, o); err == nil || ctx.Err() != nil {
			return text, err
		}
	}
	return nil, err
}

var errNoPlace = errors.New("no server is known to have it")

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
