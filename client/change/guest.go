package change

import (
	"context"

	"stork/client/catalog"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// Nest brings layers: the nest of the host, or in its absence the guest
// itself (client/direct).
type Nest interface {
	// Prepare has the layers of packages ready and returns what it says of
	// each, in any order.
	Prepare(ctx context.Context, request api.PrepareRequest, onEvent func(api.Event)) ([]api.Prepared, error)
}

// Alone is what a Nest is besides where there is no nest: its layers lie in
// the guest, are copied from there, and dropped.
type Alone interface {
	Nest
	Layers(ctx context.Context, ids []repo.Digest) (map[repo.Digest]string, error)
	Drop(ctx context.Context, ids []repo.Digest) error
}

// Transactor carries out a change in the guest: a transaction.Guest.
type Transactor interface {
	State() *transaction.State
	Run(ctx context.Context, change transaction.Change) (*transaction.Outcome, error)
	Means() (share.Means, error)
	MayMount() bool
}

// Guest is what planning and executing need.
type Guest struct {
	Catalog     *catalog.Catalog // nil where nothing new can come: for removals
	System      solve.System     // what the guest has besides Stork's packages
	Nest        Nest             // nil with Catalog
	Transaction Transactor
	Arch        repo.Arch
	Root        string        // of the guest
	Tell        bool          // the plan is shown before it is carried out
	Choice      *share.Method // how the owner wants packages shared from now on, empty: auto; nil: as before
}

// Flags are the user's choices about solving.
type Flags struct {
	AllowErasing    bool
	AllowDowngrade  bool
	AllowPublishers bool
	NoWeak          bool
	Best            bool
}

// installed returns what Stork has in the guest, as the solver sees it.
func (g *Guest) installed() []*solve.Package {
	state := g.Transaction.State()
	packages := make([]*solve.Package, len(state.Packages))
	for i := range state.Packages {
		have := &state.Packages[i]
		p := catalog.Package(&have.Entry, have.Ref)
		p.Installed, p.Reason = true, solve.Reason(have.Reason)
		packages[i] = p
	}
	return packages
}

// nothing is a provider of no packages.
type nothing struct{}

// Lookup implements [solve.Provider].
func (nothing) Lookup(context.Context, []solve.Query) ([]*solve.Package, error) { return nil, nil }

func (g *Guest) provider() solve.Provider {
	if g.Catalog == nil {
		return nothing{}
	}
	return g.Catalog
}
