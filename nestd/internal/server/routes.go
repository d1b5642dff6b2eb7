package server

import (
	"net/http"

	"stork/nestd/api"
)

// route is one line of a socket's table. The handler returns what to encode,
// or what went wrong.
type route struct {
	method  string
	path    string
	body    int64 // bytes of the request's body at most; 0: none is read
	handler func(*call) (any, error)
}

// Bounds of request bodies, in bytes.
const (
	smallBody = 64 << 10
	largeBody = 32 << 20
)

// guestRoutes are what every guest may ask, for itself.
var guestRoutes = []route{
	{http.MethodGet, api.StatusRoute, 0, guestStatus},
	{http.MethodGet, api.RepositoriesRoute + "{repository}/{path...}", 0, readFile},
	{http.MethodGet, api.TrustRoute + "{repository}", 0, trust},
	{http.MethodPost, api.QueryRoute, largeBody, query},
	{http.MethodPost, api.ProofRoute + "{repository}", largeBody, proof},
	{http.MethodPost, api.PrepareRoute, largeBody, prepare},
	{http.MethodPost, api.AttachRoute, largeBody, attachLayers},
	{http.MethodPost, api.DetachRoute, largeBody, detachLayers},
	{http.MethodPut, api.ReferencesRoute, largeBody, setReferences},
	{http.MethodPost, api.EnvironmentRoute, largeBody, environment},
	{http.MethodPost, api.UpperRoute, smallBody, upper},
	{http.MethodPost, api.PlacementRoute, largeBody, placement},
}

// operatorRoutes are what only who can open the operator's socket may ask.
var operatorRoutes = []route{
	{http.MethodGet, api.OperatorStatusRoute, 0, operatorStatus},
	{http.MethodGet, api.GuestsRoute, 0, listGuests},
	{http.MethodPost, api.GuestsRoute, smallBody, addGuest},
	{http.MethodDelete, api.GuestsRoute + "/{name}", 0, removeGuest},
	{http.MethodPost, api.GuestsRoute + "/{name}/" + api.MachineName, smallBody, serveMachine},
	{http.MethodPost, api.RefreshRoute, 0, refresh},
	{http.MethodPost, api.PrefetchRoute, largeBody, prefetch},
	{http.MethodGet, api.StoreStatsRoute, 0, storeStats},
	{http.MethodPost, api.StoreCheckRoute, 0, storeCheck},
	{http.MethodGet, api.UsageRoute, 0, usage},
}
