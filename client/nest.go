package client

import (
	"context"
	"net/http"
	"path/filepath"

	"stork/nestd/api"
	"stork/repo"
)

// Nest is the nest as one guest sees it. Its methods may be called from
// several goroutines.
type Nest struct {
	caller *caller
	dialer *guestDialer
	dir    string
}

// Dial returns the nest whose guest directory is dir, [api.GuestDir] if dir
// is empty. It does not connect yet: the first request does. In a virtual
// machine it connects by the port that its host has given it; waiting, which
// may be nil, is told if that takes long because another process has the port.
func Dial(dir string, waiting func(what string)) *Nest {
	if dir == "" {
		dir = api.GuestDir
	}
	dialer := newGuestDialer(dir)
	dialer.waiting = waiting
	return &Nest{caller: newCaller(filepath.Join(dir, api.SocketName), dialer.dial), dialer: dialer, dir: dir}
}

// Dir returns the guest directory.
func (n *Nest) Dir() string { return n.dir }

// View returns the path of the guest's view, where attached layers appear.
func (n *Nest) View() string { return filepath.Join(n.dir, api.ViewName) }

// Close drops idle connections, and gives the port back.
func (n *Nest) Close() {
	n.caller.conns.close()
	n.dialer.close()
}

// Status asks who this guest is to the nest, and how fresh its repositories
// are.
func (n *Nest) Status(ctx context.Context) (*api.Status, error) {
	status := new(api.Status)
	return status, n.caller.call(ctx, http.MethodGet, api.StatusRoute, nil, status)
}

// Query asks for index entries.
func (n *Nest) Query(ctx context.Context, request api.QueryRequest) (*api.QueryResponse, error) {
	response := new(api.QueryResponse)
	return response, n.caller.call(ctx, http.MethodPost, api.QueryRoute, request, response)
}

// Attach has layers mounted in this guest's view. An empty request.View
// stands for [Nest.View]. The process must run in the guest's mount
// namespace.
func (n *Nest) Attach(ctx context.Context, request api.AttachRequest) (*api.AttachResponse, error) {
	if request.View == "" {
		request.View = n.View()
	}
	response := new(api.AttachResponse)
	return response, n.caller.call(ctx, http.MethodPost, api.AttachRoute, request, response)
}

// Detach takes layers out of the view again and, unless the request says that
// they are kept, drops the references to them.
func (n *Nest) Detach(ctx context.Context, request api.DetachRequest) error {
	if request.View == "" {
		request.View = n.View()
	}
	return n.caller.call(ctx, http.MethodPost, api.DetachRoute, request, nil)
}

// References tells the nest what the guest has installed, all of it: layers
// left out may be removed by the nest. So may environments, unless they are
// nil.
func (n *Nest) References(ctx context.Context, packages, environments []repo.Digest) error {
	if packages == nil {
		packages = []repo.Digest{}
	}
	return n.caller.call(ctx, http.MethodPut, api.ReferencesRoute, api.References{Packages: packages, Environments: environments}, nil)
}
