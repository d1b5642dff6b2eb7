package change

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"stork/client/catalog"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// Plan is what a change would do. Its JSON is what `--json` prints.
type Plan struct {
	Packages  []Item   `json:"packages"`
	Satisfied []string `json:"satisfied,omitempty"` // what was asked for and is there already
	Asked     []string `json:"asked,omitempty"`     // of those, what from now on counts as asked for, and not as a dependency
	Download  int64    `json:"download"`            // bytes that this host has yet to fetch
	Size      int64    `json:"size"`                // bytes of the packages' files, wherever they lie
	Written   int64    `json:"written"`             // bytes that this host's store, or without a nest this guest, has yet to write, at most

	// How what comes is shared; empty if nothing comes. Converted is how many
	// packages that are there are placed anew by that method, before all else.
	Method    share.Method `json:"method,omitempty"`
	Converted int          `json:"converted,omitempty"`
	Why       string       `json:"why,omitempty"` // that method, if it is not what was to be expected

	budget  int // mounts at most; 0: any number
	steps   []solve.Step
	reasons map[*solve.Package]solve.Reason
	again   map[*solve.Package]*solve.Package // what a reinstalled package replaces
	records map[repo.Digest]*repo.Record
	asked   map[repo.Digest]transaction.Reason
	ready   []api.Prepared // what the host has already
}

// Item is one package of a plan.
type Item struct {
	Action    solve.Action   `json:"action"`
	ID        repo.Digest    `json:"id"`
	Name      repo.Name      `json:"name"`
	Version   string         `json:"version"` // [epoch:]version-release
	Arch      repo.Arch      `json:"arch"`
	Publisher repo.Publisher `json:"publisher"`
	Reason    solve.Reason   `json:"reason,omitempty"`
	For       string         `json:"for,omitempty"` // the package that needs it
	Replaces  []string       `json:"replaces,omitempty"`
	Older     bool           `json:"older,omitempty"` // than one of its name that it replaces
	Download  int64          `json:"download"`
	Size      int64          `json:"size"`
	OnHost    bool           `json:"on_host"` // unpacked on this host already
}

// Empty reports whether no package comes or goes.
func (p *Plan) Empty() bool { return len(p.Packages) == 0 }

// Idle reports whether there is nothing at all to do, not even to remember.
func (p *Plan) Idle() bool { return p.Empty() && len(p.asked) == 0 && p.Method == "" }

// Asks reports whether the guest's files change.
func (p *Plan) Asks() bool { return !p.Empty() || p.Converted > 0 }

// Incoming returns how many packages come.
func (p *Plan) Incoming() int {
	n := 0
	for i := range p.Packages {
		if p.Packages[i].Action != solve.Remove {
			n++
		}
	}
	return n
}

// Plan solves, verifies every chosen package down from the signed index, and
// asks the nest what it has of them. It changes nothing.
func (g *Guest) Plan(ctx context.Context, jobs []solve.Job, flags Flags) (*Plan, error) {
	request := solve.Request{
		Jobs: jobs, Installed: g.installed(), Arch: g.Arch,
		AllowErasing: flags.AllowErasing, AllowDowngrade: flags.AllowDowngrade,
		AllowPublishers: flags.AllowPublishers, NoWeak: flags.NoWeak, Best: flags.Best,
	}
	solved, err := solve.Solve(ctx, request, g.provider(), g.System)
	if err != nil {
		return nil, g.explain(ctx, err)
	}
	p := &Plan{
		Packages: []Item{}, steps: solved.Steps, reasons: map[*solve.Package]solve.Reason{},
		again: map[*solve.Package]*solve.Package{}, records: map[repo.Digest]*repo.Record{},
		asked: map[repo.Digest]transaction.Reason{},
	}
	for _, spec := range solved.Satisfied {
		p.satisfied(spec, request.Installed)
	}
	for _, come := range solved.Reinstall {
		p.replaceSame(come, request.Installed)
	}
	p.list(solved)
	// One is work for this program and the other for the nest.
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() error { return g.verify(bothCtx, p) })
	both.Go(func() error { return g.estimate(bothCtx, p) })
	if err := both.Wait(); err != nil {
		return nil, err
	}
	if p.Incoming() == 0 && !g.chooses() {
		return p, nil
	}
	return p, g.choose(ctx, p)
}

// satisfied notes what needs no installing. What came as a dependency and is
// now asked for stays when nothing needs it any more.
func (p *Plan) satisfied(spec solve.Spec, installed []*solve.Package) {
	p.Satisfied = append(p.Satisfied, spec.Text)
	for _, have := range installed {
		id, err := repo.ParseHex(have.ID)
		if err != nil || have.Reason == solve.User || !spec.Matches(have) {
			continue
		}
		p.Asked, p.asked[id] = append(p.Asked, have.String()), transaction.ByUser
	}
}

// replaceSame notes which installed package a reinstalled one takes the place
// of. It keeps its reason.
func (p *Plan) replaceSame(come *solve.Package, installed []*solve.Package) {
	for _, have := range installed {
		if have.NEVRA() == come.NEVRA() {
			p.again[come], p.reasons[come] = have, have.Reason
		}
	}
}

// list fills in the items, in the order of the steps.
func (p *Plan) list(solved *solve.Transaction) {
	askedBy := map[*solve.Package]*solve.Package{}
	for _, items := range [][]solve.Item{solved.Install, solved.Remove} {
		for _, item := range items {
			p.reasons[item.Package], askedBy[item.Package] = item.Reason, item.For
		}
	}
	for _, r := range solved.Upgrade {
		p.reasons[r.New] = r.Reason
	}
	for _, step := range solved.Steps {
		item := Item{
			Action: step.Action, Name: step.Package.Name, Version: step.Package.EVR.String(),
			Arch: step.Package.Arch, Publisher: step.Package.Publisher, Reason: p.reasons[step.Package],
		}
		if by := askedBy[step.Package]; by != nil {
			item.For = by.String()
		}
		for _, old := range step.Old {
			item.Replaces = append(item.Replaces, old.String())
			item.Older = item.Older || old.Name == step.Package.Name && step.Package.EVR.Compare(old.EVR) < 0
		}
		if candidate, ok := step.Package.Key.(*catalog.Candidate); ok {
			item.ID, item.Size = candidate.Ref.ID, candidate.Entry.InstalledSize
			p.Size += item.Size
		} else if id, err := repo.ParseHex(step.Package.ID); err == nil {
			item.ID = id
		}
		p.Packages = append(p.Packages, item)
	}
}

// verify reads the signed shards and the records of everything that comes.
func (g *Guest) verify(ctx context.Context, p *Plan) error {
	come := p.coming()
	if len(come) == 0 {
		return nil
	}
	records, err := g.Catalog.Verify(ctx, come...)
	if err != nil {
		return err
	}
	for i, candidate := range come {
		p.records[candidate.Ref.ID] = records[i]
	}
	return nil
}

// coming returns what comes, in order.
func (p *Plan) coming() []*catalog.Candidate {
	var come []*catalog.Candidate
	for _, step := range p.steps {
		if candidate, ok := step.Package.Key.(*catalog.Candidate); ok && step.Action != solve.Remove {
			come = append(come, candidate)
		}
	}
	return come
}

// estimate asks the nest what it has yet to fetch.
func (g *Guest) estimate(ctx context.Context, p *Plan) error {
	refs := p.refs()
	if len(refs) == 0 {
		return nil
	}
	prepared, err := g.Nest.Prepare(ctx, api.PrepareRequest{Packages: refs, DryRun: true}, nil)
	if err != nil {
		return err
	}
	by := map[repo.Digest]*api.Prepared{}
	for i := range prepared {
		by[prepared[i].ID] = &prepared[i]
		if prepared[i].Cached {
			p.ready = append(p.ready, prepared[i])
		}
	}
	for i := range p.Packages {
		item := &p.Packages[i]
		if have := by[item.ID]; have != nil && item.Action != solve.Remove {
			item.Download, item.OnHost = have.Fetched, have.Cached
			p.Download += have.Fetched
			if !have.Cached {
				p.Written += item.Size
			}
		}
	}
	return nil
}

// refs names what comes, in order.
func (p *Plan) refs() []api.PackageRef {
	var refs []api.PackageRef
	for _, candidate := range p.coming() {
		refs = append(refs, candidate.Ref)
	}
	return refs
}

// ErrRefused says that what was asked for exists, but that the owner's policy
// does not admit it.
var ErrRefused = errors.New("refused by the owner's trust policy")

// explain adds to a solver's answer what policy left out: a package that
// exists but is not trusted must not look like one that does not exist.
func (g *Guest) explain(ctx context.Context, err error) error {
	var unsolvable *solve.Unsolvable
	if g.Catalog == nil || !errors.As(err, &unsolvable) {
		return err
	}
	for _, problem := range unsolvable.Problems {
		for _, line := range problem.Lines {
			if line.Kind != solve.NoMatch && line.Kind != solve.NothingProvides {
				continue
			}
			refused, lookErr := g.Catalog.Refusals(ctx, line.Requirement)
			if lookErr != nil {
				return errors.Join(err, lookErr)
			}
			if len(refused) > 0 {
				r := refused[0]
				return fmt.Errorf("cannot install %s from %s: %w: %s", r.NEVRA(), r.Ref.Publisher, ErrRefused, r.Reason)
			}
		}
	}
	return err
}
