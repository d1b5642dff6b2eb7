package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The machine has settled when its processors were idle for most of a few
// looks in a row; nobody waits for longer than settleMax.
const (
	settleLook  = 2 * time.Second
	settleLooks = 3
	settleIdle  = 0.9 // of all processors' time
	settleMax   = 2 * time.Minute
)

// settle has what was written so far reach the disk, and waits until the
// machine is at rest: what is measured next would wait for the disk, share the
// processors with what the daemons still have to do, and on a virtual machine
// pay for what was used before.
func (l *lab) settle(ctx context.Context) error {
	unix.Sync()
	end := time.Now().Add(settleMax)
	for quiet := 0; quiet < settleLooks && time.Now().Before(end); {
		idle, err := idleFor(ctx, settleLook)
		if err != nil {
			return err
		}
		if quiet++; idle < settleIdle {
			quiet = 0
		}
	}
	return nil
}

// idleFor returns the part of all processors' time that was idle.
func idleFor(ctx context.Context, d time.Duration) (float64, error) {
	idle, all, err := processorTime()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(d):
	}
	idleAfter, allAfter, err := processorTime()
	if err != nil || allAfter == all {
		return 0, err
	}
	return float64(idleAfter-idle) / float64(allAfter-all), nil
}

// processorTime reads the first line of /proc/stat (proc_stat(5)), in ticks.
func processorTime() (idle, all int64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var t [8]int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]); err != nil {
		return 0, 0, fmt.Errorf("cannot read /proc/stat: %w", err)
	}
	for _, v := range t {
		all += v
	}
	return t[3], all, nil
}
