package api

import "stork/repo"

// Operator routes, served on the operator's socket, which only root can open.
//
//	GET    /v1/operator/status          OperatorStatus
//	GET    /v1/operator/guests          []Guest
//	POST   /v1/operator/guests          GuestRequest → Guest
//	DELETE /v1/operator/guests/{name}   Empty
//	POST   /v1/operator/guests/{name}/machine MachineRequest → Guest
//	POST   /v1/operator/refresh         []RepositoryStatus, after asking every repository for news
//	POST   /v1/operator/prefetch        PrefetchRequest → []Prefetched
//	GET    /v1/operator/store/stats     StoreStats
//	POST   /v1/operator/store/check     CheckReport
//	GET    /v1/operator/usage           Usage
const (
	OperatorStatusRoute = "/v1/operator/status"
	GuestsRoute         = "/v1/operator/guests"
	RefreshRoute        = "/v1/operator/refresh"
	PrefetchRoute       = "/v1/operator/prefetch"
	StoreStatsRoute     = "/v1/operator/store/stats"
	StoreCheckRoute     = "/v1/operator/store/check"
	UsageRoute          = "/v1/operator/usage"

	MachineName = "machine" // below a guest's route
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
	Placement  *bool       `json:"placement,omitempty"`   // the nest places mounts for the guest; null: as it was, at first not
}

// Guest is a registered guest.
type Guest struct {
	Directory  string      `json:"directory"` // on the host: bind it into the guest at GuestDir
	HostUserNS bool        `json:"host_userns,omitempty"`
	Name       string      `json:"name"`
	Owner      repo.Digest `json:"owner"`
	Packages   int         `json:"packages"` // layers it refers to
	Placement  bool        `json:"placement,omitempty"`
	RootUser   uint32      `json:"root_user,omitempty"` // of a virtual machine: the first of the host's users that serve it
}

// MachineRequest says that a guest is a virtual machine. It has no upper then,
// and nothing is placed in it, until it is removed.
type MachineRequest struct {
	// RootUser is the first of the 65536 users of the host that serve it; none
	// of them may serve another machine. 0: as before, or some that are free.
	RootUser uint32 `json:"root_user,omitempty"`
}

// PrefetchRequest asks the nest to have packages in its store before any guest
// asks for them. A package is named as "name", "publisher/name",
// "name=version" or "name=version-release"; without a version it is the newest
// one for the host's architecture. What it requires is not fetched with it.
type PrefetchRequest struct {
	Packages []string `json:"packages"`
}

// Prefetched says what became of one package of a [PrefetchRequest].
type Prefetched struct {
	Cached    bool           `json:"cached"`          // it was there before
	Error     *Error         `json:"error,omitempty"` // then it is not there; ID, NEVRA and Publisher are left out if it was not even found
	Fetched   int64          `json:"fetched"`         // bytes that came over the network
	ID        *repo.Digest   `json:"id,omitempty"`
	NEVRA     string         `json:"nevra,omitempty"`
	Package   string         `json:"package"` // as it was asked for
	Publisher repo.Publisher `json:"publisher,omitempty"`
	Stored    int64          `json:"stored"` // bytes of new objects
}

// StoreStats says what the store holds, and what sharing saves and why. Bytes
// are those of allocated blocks, each inode once; files are regular ones, and
// hard links of a package are one file. Each file of a package is new, or the
// same as another one and then counted at the nearest place where that is, so
//
//	packaged - saved + link_copies + loose = stored
type StoreStats struct {
	Bytes         int64 `json:"bytes"`          // of objects, and of directories and symlinks of layers and trees
	ApparentBytes int64 `json:"apparent_bytes"` // what the layers would take without sharing, with directories and symlinks
	Layers        int   `json:"layers"`
	Objects       int   `json:"objects"`
	Trees         int   `json:"trees"`  // merged trees, of which environments consist
	Unread        int   `json:"unread"` // layers whose file list is lost: they are in no sum; store check names them

	Packaged   Amount  `json:"packaged"` // the files of all layers, as their packages have them
	Saved      Savings `json:"saved"`
	LinkCopies Amount  `json:"link_copies"` // objects that are there again, for a file has only so many links
	Loose      Amount  `json:"loose"`       // objects of removed layers, which environments still have
	Stored     Amount  `json:"stored"`      // objects

	Times  Amount `json:"times"`  // of stored: only the time differs from another object, and byte-code records it
	Modes  Amount `json:"modes"`  // of stored: the content of another object, with other mode or capabilities
	Guests Amount `json:"guests"` // copies that guests beside the first one of each layer would have

	LayerBytes     int64 `json:"layer_bytes"` // directories and symlinks of layers
	TreeBytes      int64 `json:"tree_bytes"`  // directories, symlinks and whiteouts of merged trees
	ObjectDirBytes int64 `json:"object_dir_bytes"`
	DocumentBytes  int64 `json:"document_bytes"` // file lists and records
	DatabaseBytes  int64 `json:"database_bytes"` // with its log, and the index of every repository
}

// Amount is a number of files and their bytes.
type Amount struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Savings are the files that are not stored because the same one is there: in
// the same package; else in another version of it, which is another package of
// that name and publisher; else in another package of the publisher, which is
// a role in one repository; else in one of another publisher.
type Savings struct {
	Within     Amount `json:"within_package"`
	Versions   Amount `json:"between_versions"`
	Packages   Amount `json:"between_packages"`
	Publishers Amount `json:"between_publishers"`
}

// CheckReport lists what is wrong with the store.
type CheckReport struct {
	Layers   int      `json:"layers"`   // checked
	Objects  int      `json:"objects"`  // checked
	Trees    int      `json:"trees"`    // merged trees that were checked
	Problems []string `json:"problems"` // empty: sound
}

// Usage divides what the store's files take among those who use them, and adds
// what they have in directories that the nest provides. What a guest keeps in
// its own root, private copies and configuration, and the upper directories of
// overlays where its root can hold them, is the guest's and not counted. The
// fair parts of all guests without their own, with unused, are the bytes of the
// store, exactly; and so are those of all owners.
type Usage struct {
	Guests []Use  `json:"guests"`
	Owners []Use  `json:"owners"` // an owner's guests together
	Unused Unused `json:"unused"`
}

// Unused is what the store has for nobody: layers that no guest refers to, and
// private files, of which each guest has a copy. In bytes.
type Unused struct {
	Disk  int64 `json:"disk"`
	Cache int64 `json:"cache"`
}

// Use is the part of one guest, or of all guests of one owner. Own is in it,
// as private.
type Use struct {
	Guest string      `json:"guest,omitempty"`
	Owner repo.Digest `json:"owner"`
	Disk  Share       `json:"disk"`  // bytes of allocated blocks
	Cache Share       `json:"cache"` // bytes in the page cache
	Own   Own         `json:"own"`
}

// Own is what a guest has written in the directory that POST /v1/upper gives
// it. Bytes are those of blocks and of the page cache.
type Own struct {
	Files   int   `json:"files"` // and directories
	Disk    int64 `json:"disk"`
	Cache   int64 `json:"cache"`
	Partial bool  `json:"partial,omitempty"` // it has more than the nest was willing to look at
}

// Share counts each inode in three ways, as proc_pid_smaps(5) counts pages.
type Share struct {
	Apparent int64 `json:"apparent"` // whole, as if nothing were shared (Rss)
	Private  int64 `json:"private"`  // if nobody else uses it (Uss)
	Fair     int64 `json:"fair"`     // divided by the number of its users (Pss)
}
