package transaction

import (
	"context"
	"fmt"
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
	// Detach takes layers out of the view; a failure is only logged. With keep
	// the guest goes on having installed them.
	Detach func(ctx context.Context, ids []repo.Digest, keep bool) error
	// References replaces what the guest is said to have installed (G4), and,
	// unless environments is nil, which environments it uses.
	References func(ctx context.Context, ids, environments []repo.Digest) error
	// Environment has merged trees mounted in the guest's view, for overlays,
	// and says where: ID, Trees and Upper are filled in. The nest knows that
	// they are in use before it mounts them. It may be nil: no overlays.
	Environment func(ctx context.Context, request EnvironmentRequest) (*share.Environment, error)
	// Mounter returns what makes mounts for a guest that may not itself, or,
	// unless places, only takes away what it made before; nil if nothing does.
	// It may be nil. An error is only logged.
	Mounter func(ctx context.Context) (m share.Mounter, places bool, err error)
	// Progress hears of every step; it may be nil.
	Progress func(Event)
}

// EnvironmentRequest asks a nest for the environment of packages.
type EnvironmentRequest struct {
	Packages []repo.Digest     // none: none
	Aliases  map[string]string // see [share.Root.Aliases]
	Keep     []repo.Digest     // environments that are mounted, or about to be
	Upper    bool              // also a directory for the guest's changes: its root is an overlay
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

	have *Installed // in a conversion
}

func (p *Package) nevra() repo.NEVRA {
	if p.have != nil {
		return p.have.NEVRA()
	}
	return p.Record.NEVRA()
}

// Change is what a transaction is to do. Install is in the order in which
// packages are installed: what others need goes first. A package that
// replaces an installed one names it in Replaces; it is removed after the
// new one is in place, as rpm does. Remove is what goes without replacement.
//
// A change with Convert places all that is installed anew by Method, and does
// nothing else: Install names it, with what is private and without records.
type Change struct {
	Method   share.Method // for what is installed; empty: that of what is there, or bind
	Budget   int          // mounts that the guest may have for its packages with [share.Bind]; 0: any number
	Convert  bool
	Choice   *share.Method // what the guest's owner wants from now on, empty for any; nil: as before
	Install  []Package
	Replaces map[repo.Digest][]repo.Digest // new → old
	Remove   []repo.Digest
	Reasons  map[repo.Digest]Reason // new reasons of packages that stay
}

// BudgetError says that packages would need more mounts than the guest may
// have. Nothing has been changed.
type BudgetError struct {
	Mounts, Budget int
}

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("cannot place packages: they need %d mounts, and the guest may have %d", e.Mounts, e.Budget)
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
