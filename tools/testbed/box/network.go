package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"stork/tools/testbed/netlink"
)

// makeLink makes a machine's link, in the hub.
func makeLink(l *Link) (err error) {
	c, err := netlink.Dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.AddVeth(l.Name, "eth0", l.PID); err != nil {
		return err
	}
	if err := errors.Join(c.AddAddress(l.Name, l.Address), c.Up(l.Name)); err != nil {
		return err
	}
	// The hub is the router between its machines.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot route between machines: %w", err)
	}
	return limit(c, l.Name, l.Rate)
}

// setNetwork sets up a machine's end of its link, in the machine.
func setNetwork(n *Network) (err error) {
	c, err := netlink.Dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := errors.Join(c.AddAddress("eth0", n.Address), c.Up("eth0")); err != nil {
		return err
	}
	if err := c.AddDefaultRoute(n.Gateway); err != nil {
		return err
	}
	return limit(c, "eth0", n.Rate)
}

func limit(c *netlink.Conn, name string, rate uint32) error {
	if rate == 0 {
		return nil
	}
	return c.Limit(name, rate)
}

// get reads a small document over HTTP from inside the box's network.
func get(url string) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: the network is our own
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot get %s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}
