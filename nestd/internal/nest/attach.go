package nest

import (
	"context"
	"fmt"
	"path"
	"slices"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/repo"
)

// Admit refuses whoever may not have a guest changed. For a virtual machine a
// relay asks, which passes on what came through a port that the machine's root
// alone can open.
func (n *Nest) Admit(ctx context.Context, guest string, peer *attach.Peer) error {
	g, err := n.guest(ctx, guest)
	if err != nil || g.RootUser != 0 {
		return err
	}
	return n.Attacher.Admit(peer)
}

// Attach mounts layers that the guest has prepared into its view. The
// references are committed before (rule N3): a crash in between leaves a
// reference too many, which the guest's next References corrects.
func (n *Nest) Attach(ctx context.Context, guest string, peer *attach.Peer, request api.AttachRequest) (*api.AttachResponse, error) {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return nil, err
	}
	if err := checkLayers(request.Packages, request.View); err != nil {
		return nil, err
	}
	missing, err := n.State.NotEntitled(ctx, guest, request.Packages)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("cannot attach %s: guest %s has not prepared it: %w", missing[0].Short(), guest, attach.ErrNotEntitled)
	}
	if err := n.refer(ctx, guest, request); err != nil {
		return nil, err
	}
	identity := attach.Identity{HostUserNS: g.HostUserNS}
	if err := n.Attacher.Attach(ctx, peer, identity, n.viewDir(guest), request.View, hexes(request.Packages)); err != nil {
		return nil, err
	}
	n.quicken(guest)
	response := &api.AttachResponse{Layers: map[repo.Digest]string{}}
	for _, id := range request.Packages {
		response.Layers[id] = path.Join(request.View, id.Hex())
	}
	return response, nil
}

// refer commits the references that an attach brings.
func (n *Nest) refer(ctx context.Context, guest string, request api.AttachRequest) error {
	if request.Installed == nil {
		return n.State.Refer(ctx, guest, request.Packages)
	}
	all := slices.Concat(request.Installed, request.Packages)
	return n.References(ctx, guest, api.References{Packages: all})
}

// Detach takes layers out of the view, then drops the references, unless they
// are to be kept.
func (n *Nest) Detach(ctx context.Context, guest string, peer *attach.Peer, request api.DetachRequest) error {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return err
	}
	if err := checkLayers(request.Packages, request.View); err != nil {
		return err
	}
	identity := attach.Identity{HostUserNS: g.HostUserNS}
	if err := n.Attacher.Detach(ctx, peer, identity, n.viewDir(guest), request.View, hexes(request.Packages)); err != nil {
		return err
	}
	if request.Keep {
		return nil
	}
	return n.State.Unrefer(ctx, guest, request.Packages)
}

// References replaces what the guest refers to. Packages that it has not
// prepared here, since it has them from elsewhere, are not the nest's to keep
// and are left out.
func (n *Nest) References(ctx context.Context, guest string, references api.References) error {
	if len(references.Packages) > MaxPackages {
		return fmt.Errorf("cannot refer to %d packages: %w", len(references.Packages), errTooMany)
	}
	if len(references.Environments) > api.MaxKeep {
		return fmt.Errorf("cannot refer to %d environments: %w", len(references.Environments), errTooMany)
	}
	missing, err := n.State.NotEntitled(ctx, guest, references.Packages)
	if err != nil {
		return err
	}
	skip := map[repo.Digest]bool{}
	for _, id := range missing {
		skip[id] = true
	}
	var kept []repo.Digest
	for _, id := range references.Packages {
		if !skip[id] {
			kept = append(kept, id)
		}
	}
	if err := n.State.SetReferences(ctx, guest, kept); err != nil || references.Environments == nil {
		return err
	}
	defer n.trees.dropSoon()
	return n.State.KeepEnvironments(ctx, guest, references.Environments)
}

// checkLayers refuses what no client sends.
func checkLayers(packages []repo.Digest, view string) error {
	if len(packages) > MaxPackages {
		return fmt.Errorf("cannot attach or detach %d packages: %w", len(packages), errTooMany)
	}
	if !path.IsAbs(view) || path.Clean(view) != view || len(view) > 4096 {
		return fmt.Errorf("cannot find view %.100q: want an absolute, clean path: %w", view, errBadRequest)
	}
	return nil
}

func hexes(ids []repo.Digest) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.Hex()
	}
	return out
}
