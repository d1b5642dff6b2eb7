package client

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"stork/nestd/api"
)

// Operator is the nest as its operator sees it.
type Operator struct {
	caller *caller
}

// DialOperator returns the nest whose operator socket is at that path.
func DialOperator(socket string) *Operator {
	return &Operator{caller: newCaller(socket, func(ctx context.Context) (net.Conn, error) { return dialUnix(ctx, socket) })}
}

// Close drops idle connections.
func (o *Operator) Close() { o.caller.conns.close() }

// Status asks for the state of the nest.
func (o *Operator) Status(ctx context.Context) (*api.OperatorStatus, error) {
	status := new(api.OperatorStatus)
	return status, o.caller.call(ctx, http.MethodGet, api.OperatorStatusRoute, nil, status)
}

// Guests lists the registered guests.
func (o *Operator) Guests(ctx context.Context) ([]api.Guest, error) {
	guests := []api.Guest{}
	return guests, o.caller.call(ctx, http.MethodGet, api.GuestsRoute, nil, &guests)
}

// AddGuest registers a guest and makes its directory.
func (o *Operator) AddGuest(ctx context.Context, request api.GuestRequest) (*api.Guest, error) {
	guest := new(api.Guest)
	return guest, o.caller.call(ctx, http.MethodPost, api.GuestsRoute, request, guest)
}

// RemoveGuest removes a guest, its references and its directory.
func (o *Operator) RemoveGuest(ctx context.Context, name string) error {
	return o.caller.call(ctx, http.MethodDelete, api.GuestsRoute+"/"+url.PathEscape(name), nil, nil)
}

// Machine says that a guest is a virtual machine, and asks for the users of the
// host that serve it.
func (o *Operator) Machine(ctx context.Context, name string, request api.MachineRequest) (*api.Guest, error) {
	guest := new(api.Guest)
	return guest, o.caller.call(ctx, http.MethodPost, api.GuestsRoute+"/"+url.PathEscape(name)+"/"+api.MachineName, request, guest)
}

// Refresh asks every repository for news and returns when guests see them.
func (o *Operator) Refresh(ctx context.Context) ([]api.RepositoryStatus, error) {
	statuses := []api.RepositoryStatus{}
	return statuses, o.caller.call(ctx, http.MethodPost, api.RefreshRoute, nil, &statuses)
}

// Prefetch has packages placed in the store and returns when that is done.
func (o *Operator) Prefetch(ctx context.Context, packages []string) ([]api.Prefetched, error) {
	done := []api.Prefetched{}
	return done, o.caller.call(ctx, http.MethodPost, api.PrefetchRoute, api.PrefetchRequest{Packages: packages}, &done)
}

// Usage asks what guests and owners use.
func (o *Operator) Usage(ctx context.Context) (*api.Usage, error) {
	usage := new(api.Usage)
	return usage, o.caller.call(ctx, http.MethodGet, api.UsageRoute, nil, usage)
}

// StoreStats asks what the store holds.
func (o *Operator) StoreStats(ctx context.Context) (*api.StoreStats, error) {
	stats := new(api.StoreStats)
	return stats, o.caller.call(ctx, http.MethodGet, api.StoreStatsRoute, nil, stats)
}

// StoreCheck re-hashes everything in the store and reports what is wrong.
func (o *Operator) StoreCheck(ctx context.Context) (*api.CheckReport, error) {
	report := new(api.CheckReport)
	return report, o.caller.call(ctx, http.MethodPost, api.StoreCheckRoute, nil, report)
}
