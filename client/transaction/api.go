package transaction

import (
	"context"
	"io"
	"log/slog"
	"time"

	"stork/client/share"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

// Options says which guest, and brings the outside.
type Options struct {
	Root     string       // the guest's root; empty: "/"
	ReadOnly bool         // take no lock, recover nothing, change nothing
	Disk     durable.Disk // tests inject faults here, also those of mounts
	Now      func() time.Time
	Log      *slog.Logger  // nil: discarded
	Output   io.Writer     // what scriptlets print; nil: discarded
	Hooks    Hooks         // the nest, also for the recovery of an interrupted transaction
	Timeout  time.Duration // for one scriptlet; 0: scriptlet.DefaultTimeout
}

// Hooks is what a transaction needs of the nest. Without a nest, packages
// bring their LayerPath and are copied, and the first three are nil.
type Hooks struct {
	// Attach has the layers mounted in the guest's view and says where.
	// Layers that are attached already stay so. The nest knows that they are
	// in use before it mounts them (G4). If installed is not nil, the guest is
	// from then on said to have installed these and ids, as by References.
	Attach func(ctx context.Context, ids, installed []repo.Digest) (map[repo.Digest]string, error)
	// Detach takes layers out of the view; a failure is only logged.
	Detach func(ctx context.Context, ids []repo.Digest) error
	// References replaces what the guest is said to have installed (G4).
	References func(ctx context.Context, ids []repo.Digest) error
	// Progress hears of every step; it may be nil.
	Progress func(Event)
}

// Step is what an Event tells of.
type Step string

// The steps, in the order in which a package meets them.
const (
	StepPlan      Step = "plan"
	StepScriptlet Step = "scriptlet" // Phase says which
	StepPlace     Step = "place"
	StepRemove    Step = "remove"
	StepWarning   Step = "warning" // Text
	StepCommit    Step = "commit"
)

// Event is one step of a transaction.
type Event struct {
	Step    Step
	Package string // name-version-release.arch
	Phase   repo.Phase
	Text    string
}

// Package is a package to install.
type Package struct {
	Ref       api.PackageRef
	Record    *repo.Record
	Object    repo.Object // names the record in the index
	Reason    Reason
	LayerPath string // where the layer is, if there is no Hooks.Attach
	Private   []repo.File
}

// Change is what a transaction is to do. Install is in the order in which
// packages are installed: what others need goes first. A package that
// replaces an installed one names it in Replaces; it is removed after the
// new one is in place, as rpm does. Remove is what goes without replacement.
type Change struct {
	Method   share.Method // for what is installed; empty: bind
	Install  []Package
	Replaces map[repo.Digest][]repo.Digest // new → old
	Remove   []repo.Digest
	Reasons  map[repo.Digest]Reason // new reasons of packages that stay
}

// Outcome is what a transaction did.
type Outcome struct {
	Installed []repo.NEVRA
	Removed   []repo.NEVRA
	Failed    []Failure // packages whose scriptlet or files failed: they are as before
	Warnings  []string  // %post and others that failed, .rpmnew and .rpmsave files, unknown users
}

// Failure is a package that could not be installed or removed while others
// were.
type Failure struct {
	Package repo.NEVRA
	Err     error
}
