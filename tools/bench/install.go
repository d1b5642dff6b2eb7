package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
// rpm into an empty directory, in turn. Nothing is deleted meanwhile: after
// many deletions ext4 makes new files slowly for a while, and whoever came
// next would pay for it.
func (l *lab) measureFirst(ctx context.Context, figures *Install, paths []string) error {
	first := l.tb.Guests("")[0]
	if _, _, err := l.run(ctx, first, "stork", "status"); err != nil {
		return err
	}
	var ours, rpms []time.Duration
	for k, path := range paths {
		result, _, err := l.run(ctx, first, "stork", "install", "-y", "-q", fmt.Sprintf("bench-%d-%d", figures.Files, k))
		if err != nil {
			return err
		}
		ours = append(ours, result.Elapsed)
		took, err := l.rpmInstall(ctx, path, filepath.Join(l.dir, fmt.Sprintf("rpm-root-%d-%d", figures.Files, k)))
		if errors.Is(err, exec.ErrNotFound) {
			l.say("no rpm here: rpm_ms is null")
			continue
		}
		if err != nil {
			return err
		}
		rpms = append(rpms, took)
	}
	figures.FirstMS = percentile(ours, 50)
	if len(rpms) > 0 {
		median := percentile(rpms, 50)
		figures.RPMMS = &median
	}
	l.say("first installs of %d files: %v; rpm -i: %v", figures.Files, ours, rpms)
	return nil
}

// rpmInstall installs the same file with rpm into an empty directory.
func (l *lab) rpmInstall(ctx context.Context, path, root string) (time.Duration, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return 0, err
	}
	if out, err := exec.CommandContext(ctx, "rpm", "--root", root, "--initdb").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot make an rpm database: %w: %s", err, out)
	}
	started := time.Now()
	out, err := exec.CommandContext(ctx, "rpm", "--root", root, "-i", "--nodeps", path).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("cannot install with rpm: %w: %s", err, out)
	}
	return time.Since(started), nil
}

// measureSecond installs and removes one package in every other guest.
func (l *lab) measureSecond(ctx context.Context, figures *Install) error {
	name := fmt.Sprintf("bench-%d-0", figures.Files)
	guests := l.tb.Guests("")[1:]
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
