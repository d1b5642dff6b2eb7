package server

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Stats are what was served since the process began, in bytes that the
// operating system took for the clients, without headers.
type Stats struct {
	BlobBytes    int64 `json:"blob_bytes_served"` // below blobs/
	BlobRequests int64 `json:"blob_requests"`     // GETs below blobs/
	MetaBytes    int64 `json:"meta_bytes_served"` // the rest of the static tree
}

type counters struct {
	blobBytes, metaBytes, blobRequests atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{BlobBytes: c.blobBytes.Load(), BlobRequests: c.blobRequests.Load(), MetaBytes: c.metaBytes.Load()}
}

func newCounters() (*counters, *prometheus.Registry) {
	c, registry := new(counters), prometheus.NewRegistry()
	for _, counter := range []struct {
		name, help string
		value      *atomic.Int64
	}{
		{"stork_repo_blob_bytes_served_total", "Bytes of package files sent to clients.", &c.blobBytes},
		{"stork_repo_meta_bytes_served_total", "Bytes of the rest of the static tree sent to clients.", &c.metaBytes},
		{"stork_repo_blob_requests_total", "Requests for package files.", &c.blobRequests},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: counter.name, Help: counter.help},
			func() float64 { return float64(counter.value.Load()) }))
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
	writeJSON(w, http.StatusOK, s.counters.stats())
}

// writeJSON answers with a document. A client that went away is no error of
// ours.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cacheNothing)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
