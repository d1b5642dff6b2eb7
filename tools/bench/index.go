package bench

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"stork/client"
	"stork/fixtures"
	"stork/nestd/api"
	"stork/tools/testbed"
)

// Index are the figures of `stork-bench index`: what a large repository costs.
type Index struct {
	Packages       int     `json:"packages"`
	PublishSeconds float64 `json:"publish_seconds"`  // reading, signing, uploading, verifying, and the nest's taking it
	IngestSeconds  float64 `json:"ingest_seconds"`   // a nest with nothing takes the whole index
	SolveMS        float64 `json:"solve_ms"`         // median of whole dry runs: metadata, solving, checking
	EmptySolveMS   float64 `json:"empty_solve_ms"`   // the same before the packages were there
	GuestPeakBytes int64   `json:"guest_peak_bytes"` // the largest resident size of such a run

	Added               int              `json:"added"`                 // packages that were published then
	RefreshBytes        int64            `json:"refresh_bytes"`         // that came over the nest's link for them, headers of all layers included
	RefreshSentBytes    int64            `json:"refresh_sent_bytes"`    // that the nest sent
	RefreshBytesByKind  map[string]int64 `json:"refresh_bytes_by_kind"` // bodies of the repository's answers
	RefreshMilliseconds float64          `json:"refresh_ms"`            // of the nest's operator's refresh
}

// addedPackages is what a large repository gets on an ordinary day.
const addedPackages = 100

const solveRuns = 21

// MeasureIndex measures what that many packages in the repository cost.
func MeasureIndex(ctx context.Context, l *lab, packages int) (*Index, error) {
	figures := &Index{Packages: packages}
	path, err := sizedPackage(l.packages(), "lonely", 20)
	if err != nil {
		return nil, err
	}
	if err := l.tb.Publish(ctx, "alice", []string{path}); err != nil {
		return nil, err
	}
	guest := l.tb.Guests("")[0]
	if figures.EmptySolveMS, _, err = l.solve(ctx, guest, "lonely"); err != nil {
		return nil, err
	}
	took, err := l.addOthers(ctx, packages)
	if err != nil {
		return nil, err
	}
	figures.PublishSeconds = took.Seconds()
	last := fixtures.Bulk{Seed: 1, Packages: packages}.Spec(packages - 1)
	if figures.SolveMS, figures.GuestPeakBytes, err = l.solve(ctx, guest, last.Name); err != nil {
		return nil, err
	}
	ingest, err := l.ingest(ctx)
	if err != nil {
		return nil, err
	}
	figures.IngestSeconds = ingest.Seconds()
	return figures, l.measureRefresh(ctx, figures)
}

// measureRefresh publishes some packages more and counts what the nest, which
// has all others, fetches to know of them.
func (l *lab) measureRefresh(ctx context.Context, figures *Index) error {
	figures.Added = addedPackages
	dir := filepath.Join(l.dir, "added")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	paths, err := addedBulk(figures.Packages, addedPackages, dir)
	if err != nil {
		return err
	}
	l.say("publishing %d packages more", addedPackages)
	nest := l.tb.Nests()[0]
	before, err := l.tb.Link(ctx, nest)
	if err != nil {
		return err
	}
	if err := l.tb.Upload(ctx, "alice", paths); err != nil {
		return err
	}
	served, err := l.tb.Stats(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := l.tb.Refresh(ctx); err != nil {
		return err
	}
	figures.RefreshMilliseconds = milliseconds(time.Since(started))
	after, err := l.tb.Link(ctx, nest)
	if err != nil {
		return err
	}
	figures.RefreshBytes, figures.RefreshSentBytes = after.Received-before.Received, after.Sent-before.Sent
	now, err := l.tb.Stats(ctx)
	if err != nil {
		return err
	}
	figures.RefreshBytesByKind = map[string]int64{}
	for kind, bytes := range now.Repo.BytesServed {
		if bytes -= served.Repo.BytesServed[kind]; bytes > 0 {
			figures.RefreshBytesByKind[kind] = bytes
		}
	}
	l.say("the nest received %d bytes over its link and sent %d; the bodies were:", figures.RefreshBytes, figures.RefreshSentBytes)
	for _, kind := range slices.Sorted(maps.Keys(figures.RefreshBytesByKind)) {
		l.say("%12s %8d", kind, figures.RefreshBytesByKind[kind])
	}
	return nil
}

// addedBulk writes the packages that follow the first ones of the made-up
// distribution.
func addedBulk(first, count int, dir string) ([]string, error) {
	bulk := fixtures.Bulk{Seed: 1, Packages: first + count}
	var paths []string
	for n := first; n < first+count; n++ {
		path, err := writePackage(dir, bulk.Spec(n))
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// solve runs dry runs and returns the median time and the largest memory.
func (l *lab) solve(ctx context.Context, guest, name string) (medianMS float64, peak int64, err error) {
	var times []time.Duration
	for range solveRuns {
		result, _, err := l.run(ctx, guest, "stork", "install", "--dry-run", "-q", name)
		if err != nil {
			return 0, 0, err
		}
		times = append(times, result.Elapsed)
		peak = max(peak, result.MaxRSS)
	}
	return percentile(times, 50), peak, nil
}

// ingest has a second nest, which knows nothing, take the index, and returns
// how long that took from the start of its daemon.
func (l *lab) ingest(ctx context.Context) (time.Duration, error) {
	dir := filepath.Join(l.dir, "fresh-nest")
	status, err := l.operatorStatus(ctx)
	if err != nil {
		return 0, err
	}
	pin := status.Repositories[0].RepositoryPin
	machine := l.tb.Nests()[0]
	if _, _, err := l.run(ctx, machine, "nestd", "init", "--dir", dir, "--repo", pin.URL, "--root", pin.Root.String()); err != nil {
		return 0, err
	}
	daemon, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	started := time.Now()
	go func() {
		_, err := l.tb.Exec(daemon, machine, testbed.Command{Args: []string{"nestd", "run", "--dir", dir}, Stderr: l.log})
		ended <- err
	}()
	defer func() {
		stop()
		<-ended
	}()
	for {
		_, _, err := l.run(ctx, machine, "nestd", "refresh", "--dir", dir)
		if err == nil {
			return time.Since(started), nil
		}
		select {
		case err := <-ended:
			ended <- err
			return 0, fmt.Errorf("the second nest ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(started) > time.Minute {
			return 0, fmt.Errorf("the second nest does not serve: %w", err)
		}
	}
}

func (l *lab) operatorStatus(ctx context.Context) (*api.OperatorStatus, error) {
	operator := client.DialOperator(l.tb.OperatorSocket(l.tb.Nests()[0]))
	defer operator.Close()
	return operator.Status(ctx)
}
