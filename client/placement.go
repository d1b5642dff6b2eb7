package client

import (
	"context"
	"net/http"

	"stork/nestd/api"
)

// Placement has the nest change what of layers is mounted in this guest, for
// guests that may not mount. An empty request.View stands for [Nest.View]. The
// process must run in the guest's mount namespace.
func (n *Nest) Placement(ctx context.Context, request api.PlacementRequest) error {
	if request.View == "" {
		request.View = n.View()
	}
	return n.caller.call(ctx, http.MethodPost, api.PlacementRoute, request, nil)
}
