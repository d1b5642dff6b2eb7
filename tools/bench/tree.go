package bench

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Tree are the figures of `stork-bench tree`: the first install on a host of a
// large package, beside others.
type Tree struct {
	Files   int                `json:"files"`
	Bytes   int64              `json:"bytes"` // of all files
	N       int                `json:"n"`
	FirstMS float64            `json:"first_ms"` // median: the whole process, with download, verification and sync
	PeersMS map[string]float64 `json:"peers_ms"` // as of Install
}

// treeRuns is how many packages of the tree are installed. Their files differ,
// or the store would have them.
const treeRuns = 3

// MeasureTree measures the first install of the Go tree of this machine.
func MeasureTree(ctx context.Context, log io.Writer) (*Tree, error) {
	l, err := newLab(ctx, 1, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot find the Go tree: %w", err)
	}
	figures := &Tree{N: treeRuns, PeersMS: map[string]float64{}}
	guest := l.tb.Guests("")[0]
	var ours []time.Duration
	others := map[string][]time.Duration{}
	for k := range treeRuns {
		name := fmt.Sprintf("tree-%d", k)
		l.say("packing %s as %s", strings.TrimSpace(string(root)), name)
		tree, err := treePackage(l.packages(), name, strings.TrimSpace(string(root)), "/opt/"+name, name)
		if err != nil {
			return nil, err
		}
		figures.Files, figures.Bytes = tree.files, tree.bytes
		if err := l.tb.Publish(ctx, "alice", []string{tree.path}); err != nil {
			return nil, err
		}
		if _, _, err := l.run(ctx, guest, "stork", "status"); err != nil {
			return nil, err
		}
		result, _, err := l.run(ctx, guest, "stork", "install", "-y", "-q", name)
		if err != nil {
			return nil, err
		}
		ours = append(ours, result.Elapsed)
		if err := l.measurePeers(ctx, tree.path, filepath.Join(l.dir, "peers", name), others); err != nil {
			return nil, err
		}
	}
	l.say("first installs: %v; beside it: %v", ours, others)
	figures.FirstMS = percentile(ours, 50)
	for name, times := range others {
		figures.PeersMS[name] = percentile(times, 50)
	}
	return figures, nil
}
