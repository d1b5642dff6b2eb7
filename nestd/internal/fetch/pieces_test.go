package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
)

// TestPieces brings ranges of a file one behind the other, also when the
// child dies meanwhile, and leaves nothing in the spool.
func TestPieces(t *testing.T) {
	t.Parallel()
	needRoot(t)
	text := content(3 << 20)
	for name, kill := range map[string]bool{"undisturbed": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := start(t, dir, quick)
			defer func() { must(t, f.Close()) }()
			var killed atomic.Bool
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "bytes=100000-1999999" && kill && !killed.Swap(true) {
					must(t, unix.Kill(f.PID(), unix.SIGKILL))
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
			})
			ranges := []transfer.Range{{From: 5, To: 6}, {From: 100, To: 1000}, {From: 100_000, To: 2_000_000}, {From: 3<<20 - 7, To: 3 << 20}}
			file, result, err := f.Pieces(context.Background(), PiecesRequest{BaseURL: server.URL, Path: "frames", Ranges: ranges})
			must(t, err)
			defer file.Close()
			got, err := io.ReadAll(file)
			must(t, err)
			var want []byte
			for _, r := range ranges {
				want = append(want, text[r.From:r.To]...)
			}
			if !bytes.Equal(got, want) || result.Fetched < int64(len(want)) || len(result.Sources) != 1 || result.Sources[0].Method != "frames" {
				t.Errorf("%d bytes of %d, %+v", len(got), len(want), result)
			}
			left, err := os.ReadDir(filepath.Join(dir, "spool"))
			must(t, err)
			if len(left) != 0 {
				t.Errorf("in the spool there is %v", left)
			}
		})
	}
}

// TestPiecesRefused says what is wrong with a request or with the server.
func TestPiecesRefused(t *testing.T) {
	t.Parallel()
	f := started(t)
	server := serve(t, http.NotFound)
	ask := func(ranges ...transfer.Range) error {
		_, _, err := f.Pieces(context.Background(), PiecesRequest{BaseURL: server.URL, Path: "frames", Ranges: ranges})
		return err
	}
	if err := ask(transfer.Range{From: 0, To: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a file that is not there: %v", err)
	}
	for name, ranges := range map[string][]transfer.Range{
		"backwards": {{From: 2, To: 1}}, "empty": {{From: 1, To: 1}}, "negative": {{From: -1, To: 1}},
		"overlapping": {{From: 0, To: 5}, {From: 4, To: 6}}, "too many": make([]transfer.Range, MaxRanges+1),
	} {
		if err := ask(ranges...); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
