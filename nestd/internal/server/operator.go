package server

import (
	"os"

	"stork/nestd/api"
)

func operatorStatus(c *call) (any, error) {
	return c.server.options.Nest.Status(c.in.Context(), os.Getpid())
}

func listGuests(c *call) (any, error) {
	return c.server.options.Nest.Guests(c.in.Context())
}

// addGuest answers when the guest's socket can be connected to.
func addGuest(c *call) (any, error) {
	var request api.GuestRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	guest, err := c.server.options.Nest.AddGuest(c.in.Context(), request)
	if err != nil {
		return nil, err
	}
	return guest, c.server.listenGuest(*guest)
}

// removeGuest ends the guest's socket and everything that it has asked for,
// then removes the guest.
func removeGuest(c *call) (any, error) {
	name := c.in.PathValue("name")
	if err := c.server.closeGuest(name); err != nil {
		return nil, err
	}
	return api.Empty{}, c.server.options.Nest.RemoveGuest(c.in.Context(), name)
}

func serveMachine(c *call) (any, error) {
	var request api.MachineRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	return c.server.options.Nest.Machine(c.in.Context(), c.in.PathValue("name"), request)
}

func refresh(c *call) (any, error) {
	return c.server.options.Nest.Refresh(c.in.Context())
}

// prefetch takes as long as the packages do.
func prefetch(c *call) (any, error) {
	var request api.PrefetchRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	c.deadline(prefetchTimeout)
	return c.server.options.Nest.Prefetch(c.in.Context(), request)
}

func storeStats(c *call) (any, error) {
	return c.server.options.Nest.StoreStats(c.in.Context())
}

// storeCheck may take minutes, during which nothing is written.
func storeCheck(c *call) (any, error) {
	c.deadline(checkTimeout)
	return c.server.options.Nest.Check(c.in.Context())
}

// usage walks every layer in use.
func usage(c *call) (any, error) {
	c.deadline(checkTimeout)
	return c.server.options.Nest.Usage(c.in.Context())
}
