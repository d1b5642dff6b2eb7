package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// PiecesRequest names parts of a file that the repository offers beside a
// blob. It vouches for none of them, and neither does this package.
type PiecesRequest struct {
	BaseURL  string // of the repository that has it; its mirrors are asked too
	Path     string
	Ranges   []transfer.Range // at most [MaxRanges], in order
	Priority transfer.Priority
	Progress func(Progress) // may be nil; called ten times a second at most
}

// MaxRanges is how many ranges one request may have.
const MaxRanges = 1024

// object is what the pieces together are called in the spool: whoever wants
// others, wants another file.
func (r *PiecesRequest) object() (o repo.Object, err error) {
	b, err := json.Marshal([]any{r.Path, r.Ranges})
	o.Digest = repo.DigestOf(b)
	for _, at := range r.Ranges {
		o.Size += at.Len()
	}
	return o, err
}

// Pieces brings the ranges, one behind the other, into a file that has no name
// any more. Nobody has checked what is in it. The error wraps fs.ErrNotExist,
// ErrUnreachable or ErrNoSpace. A child that dies costs what it has brought:
// nothing of it is gone on with.
func (f *Fetcher) Pieces(ctx context.Context, r PiecesRequest) (*os.File, Result, error) {
	var result Result
	file, err := f.pieces(ctx, r, &result)
	if err != nil {
		return nil, result, fmt.Errorf("cannot fetch parts of %s: %w", join(r.BaseURL, r.Path), err)
	}
	return file, result, nil
}

func (f *Fetcher) pieces(ctx context.Context, r PiecesRequest, result *Result) (*os.File, error) {
	object, err := r.object()
	if err != nil {
		return nil, err
	}
	request := piecesRequest{Name: object.Digest, Places: f.addresses(r.BaseURL, r.Path), Priority: r.Priority}
	for _, at := range r.Ranges {
		request.Ranges = append(request.Ranges, at.From, at.To)
	}
	err = f.ask(ctx, piecesRoute, request, func(answer *http.Response) error {
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the fetcher refuses: %s", message(answer.Body))
		}
		var last blobEvent
		err := follow(answer.Body, Request{Object: object, Progress: r.Progress}, &last)
		result.add(&last, object)
		if err != nil {
			return err
		}
		return last.err()
	})
	var file *os.File
	if err == nil {
		file, err = f.openSpooled(object.Digest.Hex(), object.Size)
	}
	if discardErr := f.Discard(object); discardErr != nil && err == nil {
		err = errors.Join(discardErr, file.Close())
	}
	if ctx.Err() != nil && err != nil {
		return nil, ctx.Err()
	}
	return file, err
}

// piecesRequest asks for ranges of a file, written into the spool one behind
// the other. The answer is a stream of blobEvents.
type piecesRequest struct {
	Name     repo.Digest       `json:"name"`   // of the spool file
	Places   []string          `json:"places"` // addresses, best first
	Priority transfer.Priority `json:"priority"`
	Ranges   []int64           `json:"ranges"` // of each where it begins and where it ends
}

const piecesRoute = "/pieces"

// parse returns the ranges, and for each where it goes in the spool file.
func (r *piecesRequest) parse() (ranges []transfer.Range, at []int64, err error) {
	if len(r.Ranges)%2 != 0 || len(r.Ranges) > 2*MaxRanges {
		return nil, nil, errors.New("a request has pairs, and not too many")
	}
	end, total := int64(0), int64(0)
	for n := 0; n < len(r.Ranges); n += 2 {
		next := transfer.Range{From: r.Ranges[n], To: r.Ranges[n+1]}
		if next.From < end || next.To <= next.From {
			return nil, nil, errors.New("ranges come in order, and are not empty")
		}
		ranges, at = append(ranges, next), append(at, total)
		end, total = next.To, total+next.Len()
	}
	return ranges, at, nil
}

// create makes a file in the spool anew.
func (r *piecesRequest) create(spool *os.Root) (*os.File, error) {
	return spool.OpenFile(r.Name.Hex(), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
}
