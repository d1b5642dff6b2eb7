package fetch

import (
	"fmt"
	"net/url"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/peer"
	"stork/nestd/internal/fetch/transfer/swarm"
)

// Config says how a nest fetches. It comes from the nest's own configuration,
// and goes to the child. The zero value is that of a nest with nothing but
// its repositories.
type Config struct {
	// Mirrors are, by the repository's address, further addresses of the same
	// tree. The repository itself is asked first.
	Mirrors map[string][]string `json:"mirrors,omitempty"`

	// Connections is how many a large blob takes to web servers; 0: 4.
	Connections int `json:"connections,omitempty"`

	// Limits are how much of the network may be used when.
	Limits transfer.Schedule `json:"limits,omitzero"`

	// Peer has other nests of this network asked for small files, and answered.
	Peer peer.Config `json:"peer,omitzero"`

	// Swarm has packages come from, and go to, other nests by BitTorrent.
	Swarm swarm.Config `json:"swarm,omitzero"`

	// SeedBytes is how much of what this nest has fetched it keeps for others;
	// 0: nothing.
	SeedBytes int64 `json:"seed_bytes,omitempty"`
}

// Bounds of the configuration.
const (
	maxMirrors     = 64
	maxConnections = 64
)

// Check refuses what can not be meant.
func (c *Config) Check() error {
	for repository, mirrors := range c.Mirrors {
		if len(mirrors) > maxMirrors {
			return fmt.Errorf("%d mirrors of %s are too many", len(mirrors), repository)
		}
		for _, mirror := range append([]string{repository}, mirrors...) {
			u, err := url.Parse(mirror)
			if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
				return fmt.Errorf("%q is no http or https address of a repository", mirror)
			}
		}
	}
	if c.Connections < 0 || c.Connections > maxConnections {
		return fmt.Errorf("%d connections for one package are not possible, %d are", c.Connections, maxConnections)
	}
	if c.SeedBytes < 0 {
		return fmt.Errorf("%d bytes can not be kept for others", c.SeedBytes)
	}
	if err := c.Limits.Check(); err != nil {
		return err
	}
	if err := c.Swarm.Check(); err != nil {
		return err
	}
	return c.Peer.Check()
}
