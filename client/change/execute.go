package change

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stork/client/catalog"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// Outcome is what a change did. Its JSON is what `--json` prints.
type Outcome struct {
	Plan      *Plan    `json:"-"`
	Fetched   int64    `json:"fetched"` // bytes that came over the network
	Stored    int64    `json:"stored"`  // bytes that the store wrote
	Shared    int64    `json:"shared"`  // bytes that were there already: in the store, or as whole layers
	Installed []string `json:"installed"`
	Removed   []string `json:"removed"`
	Failed    []Failed `json:"failed,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

// Failed is a package that is as it was before, and why.
type Failed struct {
	Package string `json:"package"`
	Error   string `json:"error"`
}

// Execute carries out a plan of the same run. onEvent hears of the nest's
// progress; the transaction's own hooks tell of the guest's.
func (g *Guest) Execute(ctx context.Context, p *Plan, onEvent func(api.Event)) (*Outcome, error) {
	outcome := &Outcome{Plan: p}
	prepared := map[repo.Digest]*api.Prepared{}
	list, err := g.prepare(ctx, p, onEvent)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if record := p.records[list[i].ID]; record != nil {
			outcome.add(&list[i], record)
			prepared[list[i].ID] = &list[i]
		}
	}
	change, err := g.change(p, prepared)
	if err != nil {
		return nil, err
	}
	done, err := g.run(ctx, p, change)
	if err != nil {
		return nil, err
	}
	outcome.finish(done)
	return outcome, nil
}

// prepare has what comes made ready, and says of each package how that is.
// What the host had when it was planned is ready: nothing is asked again.
func (g *Guest) prepare(ctx context.Context, p *Plan, onEvent func(api.Event)) ([]api.Prepared, error) {
	refs := slices.DeleteFunc(p.refs(), func(ref api.PackageRef) bool {
		return slices.ContainsFunc(p.ready, func(have api.Prepared) bool { return have.ID == ref.ID })
	})
	if len(refs) == 0 {
		return p.ready, nil
	}
	list, err := g.Nest.Prepare(ctx, api.PrepareRequest{Packages: refs}, onEvent)
	return append(list, p.ready...), err
}

func (g *Guest) runAlone(ctx context.Context, alone Alone, change transaction.Change) (*transaction.Outcome, error) {
	change.Method = share.Copy
	ids := make([]repo.Digest, len(change.Install))
	for i := range change.Install {
		ids[i] = change.Install[i].Ref.ID
	}
	layers, err := alone.Layers(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range change.Install {
		change.Install[i].LayerPath = layers[ids[i]]
	}
	done, err := g.Transaction.Run(ctx, change)
	dropped := alone.Drop(context.WithoutCancel(ctx), ids)
	if err != nil {
		return nil, errors.Join(err, dropped)
	}
	if dropped != nil { // what was installed is installed
		done.Warnings = append(done.Warnings, fmt.Sprintf("cannot drop what was unpacked: %v", dropped))
	}
	return done, nil
}

// add counts what one package cost.
func (o *Outcome) add(prepared *api.Prepared, record *repo.Record) {
	o.Fetched += prepared.Fetched
	if prepared.Cached {
		o.Shared += record.InstalledSize
		return
	}
	o.Stored += prepared.Stored
	o.Shared += prepared.Shared
}

func (o *Outcome) finish(done *transaction.Outcome) {
	o.Installed, o.Removed, o.Warnings = []string{}, []string{}, done.Warnings
	for _, n := range done.Installed {
		o.Installed = append(o.Installed, n.String())
	}
	for _, n := range done.Removed {
		o.Removed = append(o.Removed, n.String())
	}
	for _, f := range done.Failed {
		o.Failed = append(o.Failed, Failed{f.Package.String(), f.Err.Error()})
	}
}

// change is the plan as the transaction wants it.
func (g *Guest) change(p *Plan, prepared map[repo.Digest]*api.Prepared) (transaction.Change, error) {
	c := transaction.Change{Reasons: p.asked, Replaces: map[repo.Digest][]repo.Digest{}}
	for _, step := range p.steps {
		if step.Action == solve.Remove {
			id, err := repo.ParseHex(step.Package.ID)
			if err != nil {
				return c, err
			}
			c.Remove = append(c.Remove, id)
			continue
		}
		candidate := step.Package.Key.(*catalog.Candidate)
		id := candidate.Ref.ID
		have := prepared[id]
		if have == nil {
			return c, fmt.Errorf("cannot install %s: the nest did not prepare it", step.Package)
		}
		c.Install = append(c.Install, transaction.Package{
			Ref: candidate.Ref, Record: p.records[id], Object: candidate.Entry.Record,
			Reason: transaction.Reason(p.reasons[step.Package]), Private: have.Private,
		})
		old := step.Old
		if have := p.again[step.Package]; have != nil {
			old = []*solve.Package{have}
		}
		for _, o := range old {
			oldID, err := repo.ParseHex(o.ID)
			if err != nil {
				return c, err
			}
			c.Replaces[id] = append(c.Replaces[id], oldID)
		}
	}
	return c, nil
}
