package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"stork/repo"
)

// Config says who the peers are. The zero value is that of a nest without.
type Config struct {
	Listen      string         `json:"listen,omitempty"`      // address and port; empty: nobody is answered
	Peers       []string       `json:"peers,omitempty"`       // host and port of each; empty: nobody is asked
	Networks    []netip.Prefix `json:"networks,omitempty"`    // of peers, whoever they are
	Connections int            `json:"connections,omitempty"` // answered at a time; 0: 64
}

// Bounds of the configuration.
const (
	maxPeers           = 1000
	maxNetworks        = 100
	maxConnections     = 4096
	defaultConnections = 64
)

// Check refuses what can not be meant.
func (c *Config) Check() error {
	if c.Listen == "" && len(c.Peers) == 0 {
		return nil
	}
	if len(c.Networks) == 0 {
		return errors.New("peers need networks that they are allowed to be in")
	}
	if len(c.Peers) > maxPeers || len(c.Networks) > maxNetworks || c.Connections < 0 || c.Connections > maxConnections {
		return errors.New("there are too many peers, networks or connections")
	}
	addresses := c.Peers
	if c.Listen != "" {
		addresses = append([]string{c.Listen}, addresses...)
	}
	for _, address := range addresses {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			return fmt.Errorf("%q is no host and port of a peer", address)
		}
	}
	for _, network := range c.Networks {
		if !network.IsValid() {
			return errors.New("networks of peers are such as 10.1.0.0/16")
		}
	}
	return nil
}

// allow refuses an address and port outside of the networks.
func (c *Config) allow(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("cannot allow %q: %w", address, err)
	}
	ip := at.Addr().Unmap().WithZone("")
	for _, network := range c.Networks {
		if network.Contains(ip) {
			return nil
		}
	}
	return fmt.Errorf("%s is in no network that peers may be in", ip)
}

// path is where a peer serves a file.
func path(d repo.Digest) string { return objects + d.Hex() }

const objects = "/objects/"
