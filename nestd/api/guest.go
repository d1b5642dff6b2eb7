package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"stork/repo"
)

// Guest routes, served on each guest's own socket. {repository} is the
// hexadecimal digest of the repository's first root.
//
//	GET  /v1/status                          Status
//	GET  /v1/repositories/{repository}/...   the repository's static tree as the nest holds it (repo/layout.go), without blobs
//	GET  /v1/trust/{repository}?known={…}    Trust
//	POST /v1/query                           QueryRequest → QueryResponse
//	POST /v1/proof/{repository}              ProofRequest → documents, each behind its length
//	POST /v1/prepare                         PrepareRequest → a stream of Event, one JSON document a line
//	POST /v1/attach                          AttachRequest → AttachResponse
//	POST /v1/detach                          DetachRequest → Empty
//	PUT  /v1/references                      References → Empty
//	POST /v1/environment                     EnvironmentRequest → EnvironmentResponse
//	POST /v1/upper                           UpperRequest → UpperResponse
//	POST /v1/placement                       PlacementRequest → Empty
const (
	StatusRoute       = "/v1/status"
	RepositoriesRoute = "/v1/repositories/"
	TrustRoute        = "/v1/trust/"
	QueryRoute        = "/v1/query"
	ProofRoute        = "/v1/proof/"
	PrepareRoute      = "/v1/prepare"
	AttachRoute       = "/v1/attach"
	DetachRoute       = "/v1/detach"
	ReferencesRoute   = "/v1/references"
	EnvironmentRoute  = "/v1/environment"
	UpperRoute        = "/v1/upper"
	PlacementRoute    = "/v1/placement"
)

// The guest's directory, as `nestd guest add` makes it and as the runtime
// binds it, read-only, into the guest.
const (
	GuestDir   = "/run/stork" // where the guest finds it, unless STORK_DIR says otherwise
	SocketName = "nest.sock"  // the guest's socket
	BinaryName = "stork"      // the static client: what is quick
	WholeName  = "stork-full" // beside it: the whole of it
	ViewName   = "view"       // below it, one directory for each attached layer, named by the package ID in hexadecimal
	PinsName   = "pins.json"  // Pins, copied into /etc/stork on first use
	UpperName  = "upper"      // in the view: the guest's own writable directory, see UpperRequest
)

// What a guest that is a virtual machine finds its nest by: the tag of the
// file system that has its directory, and the name of its serial port.
const (
	FilesTag = "stork"
	PortName = "org.stork.nest.0"
)

// Empty is the answer where there is nothing to say.
type Empty struct{}

// Pins are what a guest pins on first use and the nest can not replace later.
type Pins struct {
	Format       int             `json:"format"`
	Owner        repo.Digest     `json:"owner"` // SHA-256 of the owner's key document, version 1
	Repositories []RepositoryPin `json:"repositories"`
}

// RepositoryPin is a repository by its address and the SHA-256 of its first
// root, which is its identity.
type RepositoryPin struct {
	Root repo.Digest `json:"root"`
	URL  string      `json:"url"`
}

// Status tells a guest who it is to the nest.
type Status struct {
	Guest        string             `json:"guest"`
	Nest         string             `json:"nest"` // the nest's version
	Owner        repo.Digest        `json:"owner"`
	Placement    bool               `json:"placement,omitempty"` // the nest places the guest's mounts when it asks: PlacementRequest
	Repositories []RepositoryStatus `json:"repositories"`
}

// RepositoryStatus is how fresh a repository is at this nest.
type RepositoryStatus struct {
	RepositoryPin
	Checked int64  `json:"checked"`           // when the repository last answered, seconds since the epoch; 0: never
	Expires int64  `json:"expires,omitempty"` // when the timestamp expires
	Version int64  `json:"version,omitempty"` // of the timestamp
	Error   string `json:"error,omitempty"`   // why the last refresh failed
}

// Trust holds the files of a repository's static tree that lead from what the
// guest has pinned to its owner's policy and to the index roots of the
// publishers whom that names, so that verifying them takes one round trip and
// not one for each. It is a service and no promise: what is missing is asked
// for by its own path, and nothing in it is believed unverified.
//
// A guest that remembers what the files led to, and says so by naming their
// digest (known, in hexadecimal), is told if they are still the same; then only
// the documents among them come.
type Trust struct {
	Files []TrustFile `json:"files"`
	Same  bool        `json:"same,omitempty"`
}

// Digest names the files: the SHA-256 of each one's path, whether it is there,
// and its content, the first and the last behind their lengths (8 bytes,
// big-endian).
func (t *Trust) Digest() repo.Digest {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for i := range t.Files {
		f := &t.Files[i]
		part([]byte(f.Path))
		h.Write([]byte{map[bool]byte{true: 1}[f.Absent]})
		part(f.Content)
	}
	return repo.Digest(h.Sum(nil))
}

// TrustFile is one file of the static tree.
type TrustFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content,omitempty"`
	Absent  bool   `json:"absent,omitempty"` // there is no such file
}

// MaxTrust is about how large, in bytes of content, an answer to trust gets.
const MaxTrust = 1 << 20

// QueryKind is what a query's terms are.
type QueryKind string

// The kinds of query. Terms are names or paths, never ranges: the guest
// compares versions itself.
const (
	ByName       QueryKind = "name"        // package names
	ByGlob       QueryKind = "glob"        // package names with * ? [..], as path.Match
	ByCapability QueryKind = "capability"  // what provides it: provides, package names and primary paths
	ByObsoletes  QueryKind = "obsoletes"   // what obsoletes a package of that name
	ByReverse    QueryKind = "supplements" // what supplements or enhances it
	ByRequires   QueryKind = "requires"    // what requires it, "whatrequires"
	ByText       QueryKind = "text"        // words in name or summary, without regard to case
)

// QueryRequest asks about packages in indexes that the guest has verified.
type QueryRequest struct {
	Queries   []Query `json:"queries"`
	Documents bool    `json:"documents,omitempty"` // see QueryResponse
	Ready     bool    `json:"ready,omitempty"`     // see QueryResponse
}

// Query asks for all entries of one index that match one of the terms.
type Query struct {
	Index repo.Digest `json:"index"` // the index root's digest
	Kind  QueryKind   `json:"kind"`
	Terms []string    `json:"terms"`
}

// QueryResponse holds one result for each query, in order. Documents, if asked
// for and if there are no more than FewEntries entries in all, are what
// verifies these, as far as the nest holds it: index documents below the root,
// and records. Ready, if asked for and under the same condition, is what a dry
// run of prepare says of those packages whose layers are there, and entitles to
// them as that does. Both save asking for each.
type QueryResponse struct {
	Results   []QueryResult `json:"results"`
	Documents [][]byte      `json:"documents,omitempty"`
	Ready     []Prepared    `json:"ready,omitempty"`
}

// FewEntries is up to how many entries are answered with more than themselves.
const FewEntries = 16

// QueryResult holds index entries (repo/index.Entry), each once, in no
// particular order.
type QueryResult struct {
	Entries []json.RawMessage `json:"entries"`
	More    bool              `json:"more,omitempty"` // cut at MaxEntries
}

// MaxEntries is how many entries one query returns at most, MaxTerms how many
// terms it may have, and MaxQueries how many queries one request may have.
const (
	MaxEntries = 20000
	MaxTerms   = 5000
	MaxQueries = 256
)

// ProofRequest asks for the documents that verify packages of one index, from
// below its root: tables and shards of the index, and records. It saves asking
// for each. The answer is a stream of documents in no order, each behind its
// length in bytes, 4 of them, big-endian. It is a service and no promise: what
// is missing is asked for by its own path.
type ProofRequest struct {
	Index    repo.Digest    `json:"index"` // the index root's digest
	Packages []ProofPackage `json:"packages"`
}

// ProofPackage is one package of an index.
type ProofPackage struct {
	Name   repo.Name   `json:"name"`
	Record repo.Digest `json:"record"`
}

// MaxProof is how many packages a ProofRequest names at most, and
// MaxProofBytes about how large its answer gets.
const (
	MaxProof      = 10000
	MaxProofBytes = 128 << 20
)

// PackageRef names one package of one publisher. The nest admits it if ID is
// in the publisher's current index, as the nest itself has verified it.
type PackageRef struct {
	ID         repo.Digest    `json:"id"` // the record's digest
	Name       repo.Name      `json:"name"`
	Publisher  repo.Publisher `json:"publisher"`
	Repository repo.Digest    `json:"repository"`
}

// PrepareRequest asks the nest to have the packages' layers ready.
type PrepareRequest struct {
	Packages []PackageRef `json:"packages"`
	DryRun   bool         `json:"dry_run,omitempty"` // fetch nothing, only say what would be
}

// Phase is how far the preparing of one package has come.
type Phase string

// The phases, in order.
const (
	Waiting   Phase = "waiting"
	Fetching  Phase = "fetching"  // Done and Total are bytes of the blob
	Unpacking Phase = "unpacking" // verifying and storing too; Done and Total are bytes of content
	Ready     Phase = "ready"
)

// Event is one line of the answer to prepare. Exactly one of Progress,
// Prepared and Error is set. The stream ends with one Prepared for each
// package or with an Error.
type Event struct {
	Error    *Error    `json:"error,omitempty"`
	Prepared *Prepared `json:"prepared,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
}

// Progress is a step of one package.
type Progress struct {
	ID    repo.Digest `json:"id"`
	Phase Phase       `json:"phase"`
	Done  int64       `json:"done"`
	Total int64       `json:"total"`
}

// Prepared says that a package's layer is ready, or, in a dry run, whether it
// is: one that is there already (Cached) needs no further preparing.
type Prepared struct {
	ID       repo.Digest `json:"id"`
	Cached   bool        `json:"cached"`   // the layer was there before
	Fetched  int64       `json:"fetched"`  // bytes that came over the network for this request, or would come at most
	Stored   int64       `json:"stored"`   // bytes of new objects
	Shared   int64       `json:"shared"`   // bytes of objects that the store had already
	Private  []repo.File `json:"private"`  // what the guest must place for itself: see share.Private
	Manifest repo.Object `json:"manifest"` // the file list
}

// AttachRequest asks for layers to be mounted in the guest's view. The caller
// must run in the guest's mount namespace. View is the path of the view
// there; the nest checks that it is the directory it made.
//
// The guest's references to the layers are committed before they are mounted.
// With Installed, these and Packages replace all its references, as
// [References] does; without, Packages are added.
type AttachRequest struct {
	Packages  []repo.Digest `json:"packages"`
	View      string        `json:"view"`
	Installed []repo.Digest `json:"installed"` // null: not said
}

// AttachResponse says where the layers are. A guest that can not mount, or
// that the nest can not reach, gets an Error with code not-attached.
type AttachResponse struct {
	Layers map[repo.Digest]string `json:"layers"` // paths in the guest
}

// DetachRequest takes layers out of the guest's view again, and drops the
// guest's references to them, unless it says that they are kept: what is
// installed without its layer being seen, for there are copies of it, or an
// environment.
type DetachRequest struct {
	Packages []repo.Digest `json:"packages"`
	View     string        `json:"view"`
	Keep     bool          `json:"keep,omitempty"`
}

// References replaces what the guest says it has installed. Layers that
// nobody refers to may be removed by the nest.
//
// Environments, where it is said, lists the IDs of the environments that the
// guest's overlays are made of; the guest's references to all others are
// dropped. Null leaves them as they are, for who only says what is installed
// may be about to swap them.
type References struct {
	Packages     []repo.Digest `json:"packages"`
	Environments []repo.Digest `json:"environments"`
}
