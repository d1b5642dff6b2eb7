package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Set are the figures of `stork-bench set`: many packages installed at once,
// which one package asks for.
type Set struct {
	Packages    int     `json:"packages"` // besides the one that asks for them
	Files       int     `json:"files"`    // in all of them
	N           int     `json:"n"`        // installs behind the percentiles
	FirstMS     float64 `json:"first_ms"`
	SecondP50MS float64 `json:"second_p50_ms"`
	SecondP99MS float64 `json:"second_p99_ms"`
	Others      int     `json:"others"` // further packages in the repository
}

const (
	setPackages = 400
	setFiles    = 120 // in each package
	setGuests   = 26  // one of which installs first
	setName     = "bench-set"
)

// SetAlone measures a set of packages in a testbed of its own.
func SetAlone(ctx context.Context, others int, log io.Writer) (*Set, error) {
	l, err := newLab(ctx, 1+setGuests, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if _, err := l.addOthers(ctx, others); err != nil {
		return nil, err
	}
	return MeasureSet(ctx, l, others)
}

// MeasureSet measures the first install of a set of packages on a host, and
// those of further guests, each of them in a guest that has installed nothing
// before.
func MeasureSet(ctx context.Context, l *lab, others int) (*Set, error) {
	figures := &Set{Packages: setPackages, Files: setPackages * setFiles, Others: others}
	paths, err := l.setPackages()
	if err != nil {
		return nil, err
	}
	l.say("publishing %d packages of %d files", setPackages, setFiles)
	if err := l.tb.Publish(ctx, "alice", paths); err != nil {
		return nil, err
	}
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	var times []time.Duration
	// Not in the guest that has packages from other measurements.
	for n, guest := range l.tb.Guests("")[1 : 1+setGuests] {
		result, _, err := l.run(ctx, guest, "stork", "install", "-y", "-q", setName)
		if err != nil {
			return nil, err
		}
		if n == 0 { // it keeps them: with the last such guest the nest drops what it has merged for all
			figures.FirstMS = milliseconds(result.Elapsed)
			continue
		}
		times = append(times, result.Elapsed)
		if _, _, err := l.run(ctx, guest, "stork", "remove", "-y", "-q", setName, setName+"-*"); err != nil {
			return nil, err
		}
	}
	figures.N, figures.SecondP50MS, figures.SecondP99MS = len(times), percentile(times, 50), percentile(times, 99)
	return figures, nil
}

// setPackages writes the packages of a set, and the one that requires them.
func (l *lab) setPackages() (paths []string, err error) {
	all := sizedSpec(setName, 1)
	for i := range setPackages {
		spec := sizedSpec(fmt.Sprintf("%s-%03d", setName, i), setFiles)
		path, err := writePackage(l.packages(), spec)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
		all.Requires = append(all.Requires, spec.Name)
	}
	path, err := writePackage(l.packages(), all)
	return append(paths, path), err
}
