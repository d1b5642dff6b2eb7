package api

import "stork/repo"

// Operator routes, served on the operator's socket, which only root can open.
//
//	GET    /v1/operator/status          OperatorStatus
//	GET    /v1/operator/guests          []Guest
//	POST   /v1/operator/guests          GuestRequest → Guest
//	DELETE /v1/operator/guests/{name}   Empty
//	POST   /v1/operator/refresh         []RepositoryStatus, after asking every repository for news
//	GET    /v1/operator/store/stats     StoreStats
//	POST   /v1/operator/store/check     CheckReport
//	GET    /v1/operator/usage           Usage
const (
	OperatorStatusRoute = "/v1/operator/status"
	GuestsRoute         = "/v1/operator/guests"
	RefreshRoute        = "/v1/operator/refresh"
	StoreStatsRoute     = "/v1/operator/store/stats"
	StoreCheckRoute     = "/v1/operator/store/check"
	UsageRoute          = "/v1/operator/usage"
)

// OperatorStatus is the state of the nest.
type OperatorStatus struct {
	BytesFetched int64              `json:"bytes_fetched"` // bytes of blobs that came over the network, since init
	Guests       int                `json:"guests"`
	Identity     string             `json:"identity"` // the nest's public key, for stork-repo nest add
	PID          int                `json:"pid"`
	Repositories []RepositoryStatus `json:"repositories"`
	Started      int64              `json:"started"` // seconds since the epoch
	Version      string             `json:"version"`
}

// GuestRequest registers a guest.
type GuestRequest struct {
	Name       string      `json:"name"`
	Owner      repo.Digest `json:"owner"`
	HostUserNS bool        `json:"host_userns,omitempty"` // the guest shares the host's user namespace: no boundary
}

// Guest is a registered guest.
type Guest struct {
	Directory  string      `json:"directory"` // on the host: bind it into the guest at GuestDir
	HostUserNS bool        `json:"host_userns,omitempty"`
	Name       string      `json:"name"`
	Owner      repo.Digest `json:"owner"`
	Packages   int         `json:"packages"` // layers it refers to
}

// StoreStats says what the store holds. Bytes are allocated, each inode once.
type StoreStats struct {
	Bytes         int64 `json:"bytes"`
	Layers        int   `json:"layers"`
	Objects       int   `json:"objects"`
	ApparentBytes int64 `json:"apparent_bytes"` // what the layers would take without sharing
	Trees         int   `json:"trees"`          // merged trees, of which environments consist
	TreeBytes     int64 `json:"tree_bytes"`     // those of Bytes that only merged trees have: their directories
}

// CheckReport lists what is wrong with the store.
type CheckReport struct {
	Layers   int      `json:"layers"`   // checked
	Objects  int      `json:"objects"`  // checked
	Trees    int      `json:"trees"`    // merged trees that were checked
	Problems []string `json:"problems"` // empty: sound
}

// Usage divides what the store's files take among those who use them. What a
// guest has of its own, copies and configuration, lies in its root and is not
// counted.
type Usage struct {
	Guests []Use `json:"guests"`
	Owners []Use `json:"owners"` // an owner's guests together
}

// Use is the part of one guest, or of all guests of one owner.
type Use struct {
	Guest string      `json:"guest,omitempty"`
	Owner repo.Digest `json:"owner"`
	Disk  Share       `json:"disk"`  // bytes of allocated blocks
	Cache Share       `json:"cache"` // bytes in the page cache
}

// Share counts each inode in three ways, as proc_pid_smaps(5) counts pages.
type Share struct {
	Apparent int64 `json:"apparent"` // whole, as if nothing were shared (Rss)
	Private  int64 `json:"private"`  // if nobody else uses it (Uss)
	Fair     int64 `json:"fair"`     // divided by the number of its users (Pss)
}
