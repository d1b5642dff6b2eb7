package nest

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"

	"stork/nestd/api"
	"stork/repo"
)

// FormatKey writes a nest's public key as `stork-repo nest add` takes it.
func FormatKey(key ed25519.PublicKey) string {
	return "ed25519:" + base64.StdEncoding.EncodeToString(key)
}

// StoreStats says what the store holds.
func (n *Nest) StoreStats(ctx context.Context) (*api.StoreStats, error) {
	stats, err := n.Store.Stats(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &api.StoreStats{
		Bytes: stats.Bytes, Layers: stats.Layers, Objects: stats.Objects, ApparentBytes: stats.Apparent,
	}, nil
}

// Check compares every layer with the file list that its publisher signed,
// every object with its name, and the rows with what is there.
func (n *Nest) Check(ctx context.Context) (*api.CheckReport, error) {
	layers, err := n.State.Layers(ctx)
	if err != nil {
		return nil, err
	}
	report := &api.CheckReport{Problems: []string{}}
	rows := map[repo.Digest]bool{}
	for _, l := range layers {
		rows[l.ID] = true
		if _, placed := n.Store.Layer(l.ID); !placed {
			report.Problems = append(report.Problems, fmt.Sprintf("layer %s is ready but not in its place", l.ID))
			continue
		}
		problems, err := n.checkLayer(ctx, l.ID, l.Manifest)
		if err != nil {
			return nil, err
		}
		report.Problems = append(report.Problems, problems...)
		report.Layers++
	}
	placed, err := n.Store.Layers()
	if err != nil {
		return nil, err
	}
	for _, id := range placed {
		if rows[id] {
			continue
		}
		if _, err := n.State.Layer(ctx, id); err != nil { // it may have come while we checked
			report.Problems = append(report.Problems, fmt.Sprintf("layer %s has no row", id))
		}
	}
	objects, problems := n.Store.CheckObjects(ctx)
	report.Objects = objects
	report.Problems = append(report.Problems, problems...)
	return report, ctx.Err()
}

func (n *Nest) checkLayer(ctx context.Context, id repo.Digest, manifest repo.Object) ([]string, error) {
	text, err := n.documents.held(manifest.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{fmt.Sprintf("layer %s: its file list is lost or damaged", id)}, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := repo.DecodeFileList(text)
	if err != nil {
		return []string{fmt.Sprintf("layer %s: %v", id, err)}, nil
	}
	problems := n.Store.Check(ctx, id, list, n.Private)
	for i := range problems {
		problems[i] = fmt.Sprintf("layer %s: %s", id, problems[i])
	}
	return problems, nil
}
