package fetch

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/web"
)

// servePieces streams progress while it fetches ranges.
func (w *worker) servePieces(out http.ResponseWriter, in *http.Request) {
	var request piecesRequest
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
	var received atomic.Int64
	ctx, cancel := context.WithCancel(in.Context())
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(piecesTick)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				tell(blobEvent{Done: received.Load(), Fetched: received.Load(), Peers: 1})
			}
		}
	})
	sources, err := w.spoolPieces(in.Context(), &request, &received)
	cancel()
	telling.Wait()
	last := blobEvent{Done: received.Load(), Fetched: received.Load(), Sources: sources, Result: resultOf(err)}
	if err != nil {
		last.Message = err.Error()
	}
	tell(last)
}

// piecesTick is how often progress is told.
const piecesTick = 100 * time.Millisecond

// spoolPieces fills the spool file.
func (w *worker) spoolPieces(ctx context.Context, request *piecesRequest, received *atomic.Int64) (sources []transfer.Entry, err error) {
	ranges, at, err := request.parse()
	if err != nil {
		return nil, err
	}
	file, err := request.create(w.spool)
	if err != nil {
		return nil, &transfer.SpoolError{Err: err}
	}
	defer func() {
		if closeErr := file.Close(); closeErr != nil && err == nil {
			err = &transfer.SpoolError{Err: closeErr}
		}
	}()
	return w.client.Ranges(ctx, web.Ranges{
		Name: "frames", Places: request.Places, Ranges: ranges,
		Pace: func(ctx context.Context, n int) error { return w.limits.Pace(ctx, request.Priority, n) },
		Write: func(number int, offset int64, p []byte) error {
			received.Add(int64(len(p)))
			_, err := file.WriteAt(p, at[number]+offset)
			return err
		},
	})
}
