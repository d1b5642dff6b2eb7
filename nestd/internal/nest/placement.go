package nest

import (
	"context"
	"fmt"

	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/repo"
)

// Placement changes what of layers is mounted in a guest that may not mount.
// The references are committed before (rule N3).
//
// A guest that is not, or no longer, registered for it may have what was
// placed taken away, and another package's file instead of one that goes:
// else it could not remove its packages.
func (n *Nest) Placement(ctx context.Context, guest string, peer *attach.Peer, request api.PlacementRequest) error {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return err
	}
	layers, changes, err := changesOf(request)
	if err != nil {
		return err
	}
	if !g.Placement {
		if err := takesAway(guest, changes); err != nil {
			return err
		}
	}
	missing, err := n.State.NotEntitled(ctx, guest, layers)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("cannot place files of %s: guest %s has not prepared it: %w", missing[0].Short(), guest, attach.ErrNotEntitled)
	}
	if err := n.State.ReferMissing(ctx, guest, layers); err != nil {
		return err
	}
	identity := attach.Identity{HostUserNS: g.HostUserNS}
	return n.Attacher.Place(ctx, peer, identity, n.viewDir(guest), request.View, changes)
}

// takesAway refuses changes by which the guest would have more mounts, and
// has others replace only what the nest has placed.
func takesAway(guest string, changes []attach.Change) error {
	for i := range changes {
		if changes[i].Kind == attach.Place {
			return &api.Error{Code: api.NotEntitled, Message: fmt.Sprintf("cannot place in the guest: guest %s is not registered for it", guest),
				Hint: "The host's operator can allow it: 'nestd guest add' with --placement."}
		}
		if changes[i].Kind == attach.Replace {
			changes[i].Kind = attach.Relieve
		}
	}
	return nil
}

// changesOf refuses what no client sends, and lists the layers.
func changesOf(request api.PlacementRequest) ([]repo.Digest, []attach.Change, error) {
	if len(request.Changes) > api.MaxMountChanges {
		return nil, nil, fmt.Errorf("cannot make %d changes: %w", len(request.Changes), errTooMany)
	}
	if err := checkLayers(nil, request.View); err != nil {
		return nil, nil, err
	}
	var layers []repo.Digest
	seen := map[repo.Digest]bool{}
	changes := make([]attach.Change, len(request.Changes))
	for i, c := range request.Changes {
		if err := repo.CheckPath(c.Path); err != nil {
			return nil, nil, fmt.Errorf("cannot place files: %w: %w", err, errBadRequest)
		}
		changes[i] = attach.Change{Kind: attach.Kind(c.Kind), Path: c.Path}
		switch c.Kind {
		case api.MountPlace, api.MountReplace:
			if err := repo.CheckPath(c.Source); err != nil {
				return nil, nil, fmt.Errorf("cannot place files: %w: %w", err, errBadRequest)
			}
			changes[i].Layer, changes[i].Source = c.Layer.Hex(), c.Source
			if !seen[c.Layer] {
				seen[c.Layer] = true
				layers = append(layers, c.Layer)
			}
		case api.MountRemove, api.MountClear:
			if !c.Layer.IsZero() || c.Source != "" {
				return nil, nil, fmt.Errorf("cannot %s %s: what goes has no layer: %w", c.Kind, c.Path, errBadRequest)
			}
		default:
			return nil, nil, fmt.Errorf("cannot change mounts: unknown kind %.20q: %w", c.Kind, errBadRequest)
		}
	}
	return layers, changes, nil
}
