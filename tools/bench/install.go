package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stork/fixtures"
)

// Install are the figures of `stork-bench install`.
type Install struct {
	Files       int      `json:"files"`
	N           int      `json:"n"` // installs behind the percentiles
	FirstMS     float64  `json:"first_ms"`
	RPMMS       *float64 `json:"rpm_ms"` // rpm -i of the same file into an empty directory; null without rpm
	SecondP50MS float64  `json:"second_p50_ms"`
	SecondP99MS float64  `json:"second_p99_ms"`
	Packages    int      `json:"packages"` // others in the repository

	// PeersMS is what others take for the same files into an empty directory:
	// rpm, dnf, dpkg, unpacking with tar, copying; those that are here.
	PeersMS map[string]float64 `json:"peers_ms"`
}

const (
	installGuests = 52  // of which the first makes the first installs
	secondRuns    = 204 // at least 200, as many in each guest
	firstRuns     = 5   // as many packages of one form are installed first
)

// MeasureInstall measures the first install on a host, and those of further
// guests, of a package of that many files. Every guest's first stork command
// is among the further installs.
func MeasureInstall(ctx context.Context, l *lab, files, others int) (*Install, error) {
	figures := &Install{Files: files, Packages: others}
	var paths []string
	for k := range firstRuns {
		path, err := sizedPackage(l.packages(), fmt.Sprintf("bench-%d-%d", files, k), files)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	l.say("publishing %d packages of %d files", len(paths), files)
	if err := l.tb.Publish(ctx, "alice", paths); err != nil {
		return nil, err
	}
	if err := l.measureFirst(ctx, figures, paths); err != nil {
		return nil, err
	}
	return figures, l.measureSecond(ctx, figures)
}

// measureFirst installs each package once on a host that lacks it, and with
// every peer into an empty directory, in turn. Nothing is deleted meanwhile: after
// many deletions ext4 makes new files slowly for a while, and whoever came
// next would pay for it.
func (l *lab) measureFirst(ctx context.Context, figures *Install, paths []string) error {
	first := l.tb.Guests("")[0]
	if _, _, err := l.run(ctx, first, "stork", "status"); err != nil {
		return err
	}
	var ours []time.Duration
	others := map[string][]time.Duration{}
	for k, path := range paths {
		name := fmt.Sprintf("bench-%d-%d", figures.Files, k)
		result, _, err := l.run(ctx, first, "stork", "install", "-y", "-q", name)
		if err != nil {
			return err
		}
		ours = append(ours, result.Elapsed)
		if err := l.measurePeers(ctx, path, filepath.Join(l.dir, "peers", name), others); err != nil {
			return err
		}
	}
	figures.FirstMS = percentile(ours, 50)
	figures.PeersMS = map[string]float64{}
	for name, times := range others {
		figures.PeersMS[name] = percentile(times, 50)
	}
	if rpm, ok := figures.PeersMS["rpm"]; ok {
		figures.RPMMS = &rpm
	}
	l.say("first installs of %d files: %v; beside it: %v", figures.Files, ours, others)
	return nil
}

// measureSecond installs and removes one package in every other guest.
func (l *lab) measureSecond(ctx context.Context, figures *Install) error {
	name := fmt.Sprintf("bench-%d-0", figures.Files)
	guests := l.tb.Guests("")[1:]
	if err := l.settle(ctx); err != nil {
		return err
	}
	var times []time.Duration
	for len(times) < secondRuns {
		for _, guest := range guests {
			result, _, err := l.run(ctx, guest, "stork", "install", "-y", "-q", name)
			if err != nil {
				return err
			}
			times = append(times, result.Elapsed)
			if _, _, err := l.run(ctx, guest, "stork", "remove", "-y", "-q", name); err != nil {
				return err
			}
		}
	}
	figures.N, figures.SecondP50MS, figures.SecondP99MS = len(times), percentile(times, 50), percentile(times, 99)
	return nil
}

// addOthers fills the repository with made-up packages.
func (l *lab) addOthers(ctx context.Context, n int) (publish time.Duration, err error) {
	if n == 0 {
		return 0, nil
	}
	dir := filepath.Join(l.dir, "others")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	l.say("building %d other packages", n)
	paths, err := fixtures.Bulk{Seed: 1, Packages: n}.WriteTo(dir)
	if err != nil {
		return 0, err
	}
	l.say("publishing them")
	started := time.Now()
	err = l.tb.Publish(ctx, "alice", paths)
	return time.Since(started), err
}
