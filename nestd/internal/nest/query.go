package nest

import (
	"context"
	"errors"
	"fmt"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/index"
)

// MaxQueries is how many queries one request may have.
const MaxQueries = api.MaxQueries

// Query answers from the index database.
func (n *Nest) Query(ctx context.Context, guest string, request api.QueryRequest) (*api.QueryResponse, error) {
	if len(request.Queries) > MaxQueries {
		return nil, fmt.Errorf("cannot answer %d queries: %w", len(request.Queries), errTooMany)
	}
	ready := request.Ready
	request.Ready = false // that is each guest's own
	known, err := n.answer(ctx, request)
	if err != nil {
		return nil, err
	}
	response := *known.response
	if ready {
		response.Ready, err = n.readyOf(ctx, guest, known.packages)
	}
	return &response, err
}

// answer finds what every guest is told.
func (n *Nest) answer(ctx context.Context, request api.QueryRequest) (*answer, error) {
	key, err := keyOf(request)
	if err != nil {
		return nil, err
	}
	if known := n.answers.find(key); known != nil {
		return known, nil
	}
	found := &answer{response: &api.QueryResponse{Results: make([]api.QueryResult, len(request.Queries))}}
	entries := 0
	for i, q := range request.Queries {
		result, err := n.State.Query(ctx, q)
		if err != nil {
			return nil, queryError(q.Index, err)
		}
		found.response.Results[i] = result
		entries += len(result.Entries)
	}
	whole := true
	if entries <= api.FewEntries {
		if whole, err = n.addMore(ctx, request, found); err != nil {
			return nil, err
		}
	}
	if whole {
		n.answers.keep(key, found)
	}
	return found, nil
}

// addMore names the packages of an answer, and adds what verifies them if that
// was asked for. whole says that more of that would not come later.
func (n *Nest) addMore(ctx context.Context, request api.QueryRequest, found *answer) (whole bool, err error) {
	p := n.newProof()
	for i, result := range found.response.Results {
		for _, raw := range result.Entries {
			var entry index.Entry
			if err := repo.DecodeStrict(raw, &entry); err != nil {
				return false, fmt.Errorf("cannot read an index entry: %w", err)
			}
			ref, err := n.refOf(ctx, request.Queries[i].Index, &entry)
			if err != nil {
				return false, err
			}
			found.packages = append(found.packages, ref)
			if !request.Documents {
				continue
			}
			if err := p.add(ctx, request.Queries[i].Index, &entry); err != nil {
				return false, fmt.Errorf("cannot gather what verifies an index entry: %w", err)
			}
		}
	}
	found.packages, found.response.Documents = distinct(found.packages), p.list
	return !p.lacks, nil
}

func (n *Nest) refOf(ctx context.Context, root repo.Digest, entry *index.Entry) (api.PackageRef, error) {
	repository, publisher, err := n.State.IndexOf(ctx, root)
	if err != nil {
		return api.PackageRef{}, queryError(root, err)
	}
	return api.PackageRef{ID: entry.Record.Digest, Name: entry.Name, Publisher: publisher, Repository: repository}, nil
}

func queryError(root repo.Digest, err error) error {
	if errors.Is(err, state.ErrNotFound) {
		err = fmt.Errorf("cannot query index %s: this nest does not have it: %w", root.Short(), errUnknown)
	}
	return err
}

// readyOf says of packages, which the nest has found itself, which are there,
// and entitles the guest to those.
func (n *Nest) readyOf(ctx context.Context, guest string, refs []api.PackageRef) ([]api.Prepared, error) {
	offers, err := n.State.Offers(ctx, refs)
	if err != nil {
		return nil, err
	}
	var ready []api.Prepared
	var there []repo.Digest
	for i := range offers {
		if p := n.ready(offers[i].Layer); p != nil && offers[i].Admitted() {
			ready, there = append(ready, *p), append(there, p.ID)
		}
	}
	if len(there) == 0 {
		return nil, nil
	}
	return ready, n.State.Entitle(ctx, guest, there)
}
