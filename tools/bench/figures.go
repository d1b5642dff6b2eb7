package bench

import (
	"slices"
	"time"
)

// percentile returns the p-th percentile (0 to 100) of durations, in
// milliseconds, by the nearest-rank method.
func percentile(durations []time.Duration, p float64) float64 {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	rank := int(p/100*float64(len(sorted))+0.9999999) - 1
	return milliseconds(sorted[max(0, min(rank, len(sorted)-1))])
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
