package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"stork/client"
	"stork/fixtures"
	"stork/tools/testbed"
)

// Swarm are the figures of `stork-bench swarm`: many nests fetching the same
// package at the same moment, each over a link of its own.
type Swarm struct {
	Nests         int     `json:"nests"`
	LinkBytes     int64   `json:"link_bytes_per_second"` // of the repository's and each nest's link, each direction
	SizeBytes     int64   `json:"size_bytes"`            // of the package
	LimitSeconds  float64 `json:"limit_seconds"`         // that the repository's link takes for one copy
	Seconds       float64 `json:"seconds"`               // until the last nest has it in its store
	RepoBytes     int64   `json:"repo_bytes"`            // that left the repository meanwhile, headers of all layers included
	HTTPSeconds   float64 `json:"http_seconds"`          // the same by HTTP alone
	HTTPRepoBytes int64   `json:"http_repo_bytes"`
}

// SwarmOptions say what to measure.
type SwarmOptions struct {
	Nests    int
	Size     int64  // bytes of the package's one file
	Rate     string // of each link, as "25mbit"
	Transfer string // the nests' transfer setting, as testbed.Options has it; empty: with the swarm
}

// The transfer settings of nests that take part in swarms, and seed what they
// have fetched, and of nests that fetch by HTTP and in no other way.
const (
	withSwarm = `{"seed_bytes":4000000000,"swarm":{"listen":"{address}:8761"}}`
	httpAlone = `{}`
)

// MeasureSwarm measures with the setting that is asked for, then by HTTP
// alone, each in a testbed of its own. If both are the same it measures once.
func MeasureSwarm(ctx context.Context, o SwarmOptions, log io.Writer) (*Swarm, error) {
	rate, err := testbed.ParseRate(o.Rate)
	if err == nil && rate == 0 {
		err = errors.New("cannot measure links without a rate: give one, as 25mbit")
	}
	if err != nil {
		return nil, err
	}
	figures := &Swarm{Nests: o.Nests, LinkBytes: int64(rate)}
	fmt.Fprintf(log, "stork-bench: %d nests, links of %s each direction; %+v\n", o.Nests, o.Rate, thisMachine())
	if o.Transfer == "" {
		o.Transfer = withSwarm
	}
	if o.Transfer != httpAlone {
		if figures.Seconds, figures.RepoBytes, err = figures.run(ctx, o, o.Transfer, log); err != nil {
			return nil, err
		}
	}
	if figures.HTTPSeconds, figures.HTTPRepoBytes, err = figures.run(ctx, o, httpAlone, log); err != nil {
		return nil, err
	}
	if figures.Seconds == 0 {
		figures.Seconds, figures.RepoBytes = figures.HTTPSeconds, figures.HTTPRepoBytes
	}
	return figures, nil
}

// swarmPackage is the name of the package that the nests fetch.
const swarmPackage = "swarm"

// run measures one setting.
func (s *Swarm) run(ctx context.Context, o SwarmOptions, transfer string, log io.Writer) (seconds float64, repoBytes int64, err error) {
	l, err := newLabOf(ctx, testbed.Options{Nests: o.Nests, Rate: o.Rate, Transfer: transfer}, log)
	if err != nil {
		return 0, 0, err
	}
	defer l.close()
	path, err := writePackage(l.packages(), fixtures.Spec{
		Name: swarmPackage, Arch: "noarch", Compression: "zstd:1",
		Files: []fixtures.File{fixtures.Noise(filepath.Join("/opt", swarmPackage), int(o.Size))},
	})
	if err != nil {
		return 0, 0, err
	}
	blob, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	s.SizeBytes = blob.Size()
	s.LimitSeconds = float64(s.SizeBytes) / float64(s.LinkBytes)
	l.say("publishing a package of %d bytes over the repository's link", s.SizeBytes)
	if err := l.tb.Publish(ctx, "alice", []string{path}); err != nil {
		return 0, 0, err
	}
	if err := l.settle(ctx); err != nil {
		return 0, 0, err
	}
	before, err := l.tb.Link(ctx, testbed.RepoMachine)
	if err != nil {
		return 0, 0, err
	}
	l.say("%d nests fetch it, with the setting %s", o.Nests, transfer)
	began := time.Now()
	if err := l.prefetchEverywhere(ctx, swarmPackage); err != nil {
		return 0, 0, err
	}
	seconds = time.Since(began).Seconds()
	after, err := l.tb.Link(ctx, testbed.RepoMachine)
	if err != nil {
		return 0, 0, err
	}
	repoBytes = after.Sent - before.Sent
	l.say("done in %.1f s, %.2f times the limit of %.1f s; the repository sent %.2f copies",
		seconds, seconds/s.LimitSeconds, s.LimitSeconds, float64(repoBytes)/float64(s.SizeBytes))
	return seconds, repoBytes, nil
}

// prefetchEverywhere has every nest fetch a package, started together, and
// fails unless each got it over the network.
func (l *lab) prefetchEverywhere(ctx context.Context, name string) error {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, nest := range l.tb.Nests() {
		group.Go(func() error {
			operator := client.DialOperator(l.tb.OperatorSocket(nest))
			defer operator.Close()
			done, err := operator.Prefetch(ctx, []string{name})
			switch {
			case err != nil:
			case len(done) != 1:
				err = fmt.Errorf("it answers about %d packages", len(done))
			case done[0].Error != nil:
				err = done[0].Error
			case done[0].Cached || done[0].Fetched == 0:
				err = fmt.Errorf("it had %s already", done[0].NEVRA)
			}
			if err != nil {
				return fmt.Errorf("nest %s: %w", nest, err)
			}
			l.say("%s has it after %.1f s, %d bytes fetched", nest, time.Since(began).Seconds(), done[0].Fetched)
			return nil
		})
	}
	return group.Wait()
}
