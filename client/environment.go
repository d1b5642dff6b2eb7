package client

import (
	"context"
	"net/http"

	"stork/nestd/api"
)

// Environment has one merged tree of many packages mounted in this guest's
// view, for an overlay. An empty request.View stands for [Nest.View]. The
// process must run in the guest's mount namespace.
func (n *Nest) Environment(ctx context.Context, request api.EnvironmentRequest) (*api.EnvironmentResponse, error) {
	if request.View == "" {
		request.View = n.View()
	}
	response := new(api.EnvironmentResponse)
	return response, n.caller.call(ctx, http.MethodPost, api.EnvironmentRoute, request, response)
}

// Upper has a writable directory of this guest's own mounted in its view, for
// an overlay's upper where the guest's root can hold none. An empty
// request.View stands for [Nest.View].
func (n *Nest) Upper(ctx context.Context, request api.UpperRequest) (*api.UpperResponse, error) {
	if request.View == "" {
		request.View = n.View()
	}
	response := new(api.UpperResponse)
	return response, n.caller.call(ctx, http.MethodPost, api.UpperRoute, request, response)
}
