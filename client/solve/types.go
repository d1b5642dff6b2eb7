package solve

import (
	"context"

	"stork/repo"
)

// Package is one build of a package, installed or available. Its fields
// repeat the record's of the same name. Solve does not change it.
type Package struct {
	Name        repo.Name
	EVR         repo.EVR
	Arch        repo.Arch
	Publisher   repo.Publisher // an upgrade stays with the publisher unless asked
	Priority    int            // the policy's order: a lower one is preferred, before any version
	Provides    []repo.Capability
	Obsoletes   []repo.Capability
	Requires    []string // the text form of repo.Requirement, as in all that follow
	RequiresPre []string
	Conflicts   []string
	Recommends  []string
	Suggests    []string
	Supplements []string
	Enhances    []string
	Paths       []string // primary paths: see repo.IsPrimaryPath

	Installed bool
	Reason    Reason // installed packages: why
	Multi     bool   // several versions may be installed beside each other, as kernels are

	// ID tells packages apart: whatever the provider returns twice has the
	// same ID, and an installed package has that of the available one it came
	// from. If it is empty, NEVRA and publisher stand for it.
	ID  string
	Key any // the caller's handle; Solve does not look at it
}

// NEVRA returns name, version and architecture.
func (p *Package) NEVRA() repo.NEVRA { return repo.NEVRA{Name: p.Name, EVR: p.EVR, Arch: p.Arch} }

// String returns "name-version-release.arch".
func (p *Package) String() string { return p.NEVRA().String() }

// Reason says why a package is or gets installed.
type Reason string

// The reasons.
const (
	User       Reason = "user"       // asked for
	Dependency Reason = "dependency" // something needs it
	Weak       Reason = "weak"       // recommended, or it supplements something
)

// Kind says what a query's terms are; the values are those of the nest's
// query kinds.
type Kind string

// The kinds of query.
const (
	ByName       Kind = "name"        // package names
	ByGlob       Kind = "glob"        // package names with * ? [..], as path.Match
	ByCapability Kind = "capability"  // what provides it: provides, package names and primary paths
	ByObsoletes  Kind = "obsoletes"   // what obsoletes a package of that name
	ByReverse    Kind = "supplements" // what supplements or enhances it
)

// Query asks for all packages that match one of the terms, whatever their
// versions.
type Query struct {
	Kind  Kind
	Terms []string // sorted, unique
}

// Provider brings candidates that the guest may install: those that policy
// admits, of any architecture. Each call is a round trip, so Solve asks for
// all it can in one. It is called from one goroutine.
type Provider interface {
	Lookup(ctx context.Context, queries []Query) ([]*Package, error)
}

// System knows what the guest has besides the packages that Stork manages. It
// can not be removed or upgraded; what it satisfies pulls in nothing.
type System interface {
	// Provided returns everything the guest provides under the names of caps,
	// with versions; a versioned entry of caps need not be satisfied by it.
	Provided(ctx context.Context, caps []repo.Capability) ([]repo.Capability, error)
}

// Action is what a job does.
type Action string

// The actions.
const (
	Install   Action = "install"
	Remove    Action = "remove"
	Upgrade   Action = "upgrade"
	Reinstall Action = "reinstall"
)

// Job is one thing the user asks for.
type Job struct {
	Action Action
	Spec   Spec // the zero Spec, with Upgrade only, means every package
}

// Request is what Solve is to do, and where it starts from.
type Request struct {
	Jobs      []Job
	Installed []*Package // all that Stork has installed in the guest
	Arch      repo.Arch  // the guest's; other architectures but noarch are left out

	AllowErasing    bool // installed packages may go to make way
	AllowDowngrade  bool // an upgrade may go to an older version
	AllowPublishers bool // an upgrade may change the publisher
	Best            bool // fail rather than take an older version than the newest
	NoWeak          bool // leave out what is only recommended
	AllObsoleters   bool // an upgrade installs all that replace a package, not one: how yum treats split packages
}
