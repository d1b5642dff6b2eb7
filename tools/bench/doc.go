// Package bench measures Stork on one machine, over the testbed, beside the
// tools of today. Each benchmark prints one JSON object of figures; they are
// ratios and percentiles of whole processes, taken in one run.
//
// Start with [Run], which is the program stork-bench.
package bench
