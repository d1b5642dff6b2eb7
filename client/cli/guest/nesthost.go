package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stork/client"
	"stork/client/catalog"
	"stork/client/share"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// nestHost is the host's nest as a session sees it.
type nestHost struct {
	nest     *client.Nest
	installs bool                          // what is found is about to be prepared
	ready    map[repo.Digest]*api.Prepared // what the nest has said of that with its answers
}

// Files implements [catalog.Origin].
func (h *nestHost) Files(root repo.Digest) catalog.Files { return h.nest.Repository(root) }

// Query implements [catalog.Origin].
func (h *nestHost) Query(ctx context.Context, r api.QueryRequest) (*api.QueryResponse, error) {
	r.Ready = h.installs && r.Documents
	response, err := h.nest.Query(ctx, r)
	if err != nil {
		return nil, err
	}
	for i := range response.Ready {
		h.ready[response.Ready[i].ID] = &response.Ready[i]
	}
	return response, nil
}

// Prepare implements [change.Nest]. A dry run is not asked for if the nest has
// said already that all is there.
func (h *nestHost) Prepare(ctx context.Context, r api.PrepareRequest, onEvent func(api.Event)) ([]api.Prepared, error) {
	if list := h.known(r.Packages); r.DryRun && list != nil {
		return list, nil
	}
	return h.nest.Prepare(ctx, r, onEvent)
}

// known returns what the nest has said of packages, or nil if not of all.
func (h *nestHost) known(refs []api.PackageRef) []api.Prepared {
	var list []api.Prepared
	for _, ref := range refs {
		have := h.ready[ref.ID]
		if have == nil {
			return nil
		}
		list = append(list, *have)
	}
	return list
}

// Attach has layers mounted in this guest's view; see [transaction.Hooks].
func (h *nestHost) Attach(ctx context.Context, ids, installed []repo.Digest) (map[repo.Digest]string, error) {
	response, err := h.nest.Attach(ctx, api.AttachRequest{Packages: ids, Installed: installed})
	if err != nil {
		return nil, err
	}
	return response.Layers, nil
}

// Detach takes layers out of this guest's view; see [transaction.Hooks].
func (h *nestHost) Detach(ctx context.Context, ids []repo.Digest, keep bool) error {
	return h.nest.Detach(ctx, api.DetachRequest{Packages: ids, Keep: keep})
}

// References tells the nest what is installed.
func (h *nestHost) References(ctx context.Context, ids, environments []repo.Digest) error {
	return h.nest.References(ctx, ids, environments)
}

// Environment has merged trees mounted in this guest's view; see
// [transaction.Hooks].
func (h *nestHost) Environment(ctx context.Context, r transaction.EnvironmentRequest) (*share.Environment, error) {
	response, err := h.nest.Environment(ctx, api.EnvironmentRequest{Packages: r.Packages, Aliases: r.Aliases, Keep: r.Keep})
	if err != nil {
		return nil, err
	}
	e := &share.Environment{ID: response.ID, Trees: response.Trees}
	if r.Upper {
		upper, err := h.nest.Upper(ctx, api.UpperRequest{})
		if err != nil {
			return nil, err
		}
		e.Upper = upper.Path
	}
	return e, nil
}

// placer has the nest make a guest's mounts.
type placer struct{ nest *client.Nest }

// Change implements [share.Mounter].
func (p placer) Change(ctx context.Context, changes []share.MountChange) error {
	for chunk := range slices.Chunk(changes, api.MaxMountChanges) {
		var request api.PlacementRequest
		for _, c := range chunk {
			request.Changes = append(request.Changes,
				api.MountChange{Kind: api.MountKind(c.Kind), Path: c.Path, Layer: c.From.Layer, Source: c.From.Source})
		}
		err := p.nest.Placement(ctx, request)
		if err != nil && !refused(err) {
			return fmt.Errorf("%w: %w", share.ErrNoMounter, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused reports whether the nest has looked at a request and does not do it.
func refused(err error) bool {
	var wire *api.Error
	return errors.As(err, &wire) && slices.Contains([]api.Code{api.BadRequest, api.TooLarge, api.NotFound, api.NotEntitled, api.Conflict, api.Unsupported}, wire.Code)
}

// Mounter returns what makes mounts for this guest, or, where the nest does
// not, takes away what it made before; see [transaction.Hooks].
func (h *nestHost) Mounter(ctx context.Context) (m share.Mounter, places bool, err error) {
	status, err := h.nest.Status(ctx)
	if err != nil {
		return nil, false, err
	}
	return placer{h.nest}, status.Placement, nil
}

// Close implements host.
func (h *nestHost) Close() error {
	h.nest.Close()
	return nil
}
