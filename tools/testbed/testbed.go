package testbed

import (
	"io"
	"time"
)

// Options say what a testbed has.
type Options struct {
	Dir      string // where everything lies; made by Up, must be empty or missing
	Nests    int    // n1, n2 …
	Guests   int    // of each nest: n1g1, n1g2 …
	NoUserNS bool   // guests share the host's user namespace
	Rootfs   string // the tree under the guests' roots; empty: the host's own root
	Rate     string // of the repository's and each nest's link, each direction, as "100mbit"; empty: no limit
	Transfer string // the nests' setting of that name, JSON as in nest.json, with {address} for the nest's own; empty: none
	Bin      string // where Stork's programs lie; empty: beside the running program
}

// Command is a program to run in a guest or machine.
type Command struct {
	Args   []string
	Env    []string // beyond PATH, HOME, TERM
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Result is how a command ended.
type Result struct {
	Status  int           // exit status; 128 and the number for a signal, 126 and 127 as in the shell
	Elapsed time.Duration // from fork to exit, measured beside the command
	MaxRSS  int64         // the most that the command itself, or one of its children, had resident, in bytes
}

// Stats are the figures of a testbed.
type Stats struct {
	Repo   RepoStats             `json:"repo"`
	Nests  map[string]NestStats  `json:"nests"`
	Guests map[string]GuestStats `json:"guests"`
}

// RepoStats counts what the repository has served since it started.
type RepoStats struct {
	BlobBytesServed int64            `json:"blob_bytes_served"`
	MetaBytesServed int64            `json:"meta_bytes_served"`
	BytesServed     map[string]int64 `json:"bytes_served"` // by kind: see the repository's statistics
	BlobRequests    int64            `json:"blob_requests"`
}

// LinkStats counts what went over a machine's link since it was made, in
// bytes as the kernel counts them: with the headers of all layers.
type LinkStats struct {
	Received int64 // by the machine
	Sent     int64
}

// NestStats says what a nest has fetched and holds. Bytes of the store are
// allocated ones, each inode once.
type NestStats struct {
	BytesFetched int64 `json:"bytes_fetched"`
	StoreBytes   int64 `json:"store_bytes"`
	Objects      int   `json:"objects"`
	Layers       int   `json:"layers"`
}

// GuestStats says what a guest has of its own: allocated bytes of its files
// and of stork's state, and the mounts that came after it was started.
type GuestStats struct {
	PrivateBytes int64 `json:"private_bytes"`
	Mounts       int   `json:"mounts"`
}
