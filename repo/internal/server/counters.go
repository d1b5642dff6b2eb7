package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"stork/repo"
	"stork/repo/internal/tracker"
)

// Stats are what was served since the process began, in bytes that the
// operating system took for the clients, without headers; and which nests
// announce to the tracker now.
type Stats struct {
	BlobBytes    int64            `json:"blob_bytes_served"` // below blobs/ and frames/
	BlobRequests int64            `json:"blob_requests"`     // GETs below blobs/
	Bytes        map[string]int64 `json:"bytes_served"`      // by kind: see kinds
	MetaBytes    int64            `json:"meta_bytes_served"` // of every other kind

	Root    repo.Digest   `json:"root"` // the repository's first root: who is counting
	Tracker tracker.Stats `json:"tracker"`
}

// kinds are what bytes are counted by: the directories of the tree, its
// metadata by role, and what is not of the tree.
var kinds = []string{"timestamp", "root", "snapshot", "targets", "role", "keys", "data", "blobs", "packs", "deltas", "frames", "other"}

// kindOf returns the kind of a path.
func kindOf(p string) string {
	dir, name, _ := strings.Cut(p, "/")
	switch dir {
	case "keys", "data", "blobs", "packs", "deltas", "frames":
		return dir
	case "metadata":
		if p == repo.TimestampPath {
			return "timestamp"
		}
		_, role, _ := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
		switch role {
		case "root", "snapshot", "targets":
			return role
		}
		return "role"
	}
	return "other"
}

type counters struct {
	bytes        map[string]*atomic.Int64 // by kind; not changed
	blobRequests atomic.Int64
}

func (c *counters) stats() Stats {
	s := Stats{BlobRequests: c.blobRequests.Load(), Bytes: map[string]int64{}}
	for kind, n := range c.bytes {
		s.Bytes[kind] = n.Load()
		if kind == "blobs" || kind == "frames" {
			s.BlobBytes += s.Bytes[kind]
		} else {
			s.MetaBytes += s.Bytes[kind]
		}
	}
	return s
}

func newCounters(t *tracker.Tracker) (*counters, *prometheus.Registry) {
	c, registry := &counters{bytes: map[string]*atomic.Int64{}}, prometheus.NewRegistry()
	for _, kind := range kinds {
		c.bytes[kind] = new(atomic.Int64)
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "stork_repo_bytes_served_total", Help: "Bytes of the static tree sent to clients, by kind.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(c.bytes[kind].Load()) }))
	}
	for _, counter := range []struct {
		name, help string
		value      func(Stats) int64
	}{
		{"stork_repo_blob_bytes_served_total", "Bytes of package files sent to clients.", func(s Stats) int64 { return s.BlobBytes }},
		{"stork_repo_meta_bytes_served_total", "Bytes of the rest of the static tree sent to clients.", func(s Stats) int64 { return s.MetaBytes }},
		{"stork_repo_blob_requests_total", "Requests for package files.", func(s Stats) int64 { return s.BlobRequests }},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: counter.name, Help: counter.help},
			func() float64 { return float64(counter.value(c.stats())) }))
	}
	for _, gauge := range []struct {
		name, help string
		value      func(tracker.Stats) int
	}{
		{"stork_repo_tracker_swarms", "Packages that nests announce.", func(s tracker.Stats) int { return s.Swarms }},
		{"stork_repo_tracker_seeds", "Nests that announce to have a package, summed over packages.", func(s tracker.Stats) int { return s.Seeds }},
		{"stork_repo_tracker_leechers", "Nests that announce to want a package, summed over packages.", func(s tracker.Stats) int { return s.Leechers }},
	} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help},
			func() float64 { return float64(gauge.value(t.Stats())) }))
	}
	for _, counter := range []struct {
		name, help string
		value      func(tracker.Stats) int64
	}{
		{"stork_repo_tracker_announces_total", "Announces that were answered.", func(s tracker.Stats) int64 { return s.Announces }},
		{"stork_repo_tracker_refused_total", "Announces that were refused.", func(s tracker.Stats) int64 { return s.Refused }},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: counter.name, Help: counter.help},
			func() float64 { return float64(counter.value(t.Stats())) }))
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return c, registry
}

// expiring is the number of things that will have expired soon, -1 if that
// can not be read.
func (s *Server) expiring() float64 {
	metadata, err := s.home.Metadata()
	if err != nil {
		return -1
	}
	warnings, err := metadata.Warnings()
	if err != nil {
		return -1
	}
	return float64(len(warnings))
}

func (s *Server) metrics() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry})
}

func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	stats := s.counters.stats()
	stats.Root, stats.Tracker = s.home.Root, s.tracker.Stats()
	writeJSON(w, http.StatusOK, stats)
}

// writeJSON answers with a document. A client that went away is no error of
// ours.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cacheNothing)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
