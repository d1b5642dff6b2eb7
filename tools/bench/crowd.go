package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Crowd are the figures of `stork-bench crowd`.
type Crowd struct {
	Guests       int     `json:"guests"`
	Seconds      float64 `json:"seconds"`        // from the first exec to the last exit
	Downloads    float64 `json:"downloads"`      // bytes of blobs that left the repository, over the blob's size
	NestRSSBytes int64   `json:"nest_rss_bytes"` // the most that the daemon had resident
	Failed       int     `json:"failed"`
}

// MeasureCrowd lets all guests install the same package at the same moment.
// For each it is the first stork command.
func MeasureCrowd(ctx context.Context, guests int, log io.Writer) (*Crowd, error) {
	l, err := newLab(ctx, guests, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	const name = "crowd"
	path, err := sizedPackage(l.packages(), name, 20)
	if err != nil {
		return nil, err
	}
	blob, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := l.tb.Publish(ctx, "alice", []string{path}); err != nil {
		return nil, err
	}
	before, err := l.tb.Stats(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	figures := &Crowd{Guests: guests}
	l.say("%d guests install", guests)
	took, failed := l.together(ctx, name)
	figures.Seconds, figures.Failed = took.Seconds(), failed
	after, err := l.tb.Stats(ctx)
	if err != nil {
		return nil, err
	}
	served := after.Repo.BlobBytesServed - before.Repo.BlobBytesServed
	figures.Downloads = float64(served) / float64(blob.Size())
	figures.NestRSSBytes, err = l.nestMemory()
	return figures, err
}

// together installs in all guests at once.
func (l *lab) together(ctx context.Context, name string) (time.Duration, int) {
	var all sync.WaitGroup
	var failed atomic.Int32
	began := time.Now()
	for _, guest := range l.tb.Guests("") {
		all.Go(func() {
			if _, _, err := l.run(ctx, guest, "stork", "install", "-y", "-q", name); err != nil {
				if failed.Add(1) == 1 {
					l.say("%v", err)
				}
			}
		})
	}
	all.Wait()
	return time.Since(began), int(failed.Load())
}

// nestMemory returns the most memory that the nest's daemon has had resident.
func (l *lab) nestMemory() (int64, error) {
	nest := l.tb.Nests()[0]
	executable, err := os.Executable()
	if err != nil {
		return 0, err
	}
	command := fmt.Sprintf("%s run --dir %s", filepath.Join(filepath.Dir(executable), "nestd"), l.tb.NestDir(nest))
	pids, err := processes(command)
	if err == nil && len(pids) != 1 {
		err = errors.New("there is not one such process")
	}
	if err != nil {
		return 0, fmt.Errorf("cannot find %q: %w", command, err)
	}
	return statusBytes(pids[0], "VmHWM")
}
