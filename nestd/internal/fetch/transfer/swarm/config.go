package swarm

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config says how a nest takes part in swarms. The zero value is that of a
// nest that does not.
type Config struct {
	Listen   string         `json:"listen,omitempty"`   // address and port; empty: no swarms
	Networks []netip.Prefix `json:"networks,omitempty"` // that peers may be in; empty: Private
	Local    bool           `json:"local,omitempty"`    // look for peers in the local network
	Ratio    int64          `json:"ratio,omitempty"`    // how many times a package is sent by one fetcher, at most; 0: any
}

const maxNetworks = 100

// On reports whether the nest takes part.
func (c *Config) On() bool { return c.Listen != "" }

// Check refuses what can not be meant.
func (c *Config) Check() error {
	if !c.On() {
		return nil
	}
	if _, err := netip.ParseAddrPort(c.Listen); err != nil {
		return fmt.Errorf("%q is no address and port where peers of a swarm could connect", c.Listen)
	}
	if len(c.Networks) > maxNetworks || c.Ratio < 0 {
		return errors.New("a swarm has too many networks, or a ratio below 0")
	}
	for _, network := range c.Networks {
		if !network.IsValid() {
			return errors.New("networks of a swarm are such as 10.1.0.0/16")
		}
	}
	return nil
}
