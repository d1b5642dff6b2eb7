package change

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/repo"
)

// budget takes overlays if binding would take more mounts than a guest may
// have. How many it takes is known only to who plans it, so here are bounds:
// a mount for each file at most, and two for each package at least, for
// hardly one is without a program and a directory. What lies between them the
// transaction finds out ([transaction.BudgetError]); who is asked before is
// told an estimate, which takes the file lists.
func (g *Guest) budget(ctx context.Context, p *Plan, state *transaction.State) error {
	stay := p.staying(state)
	least, most := stay+2*p.Incoming(), stay
	for _, record := range p.records {
		most += record.FileList.Count
	}
	if most <= share.DefaultMounts {
		return nil
	}
	p.budget = share.DefaultMounts
	if least <= share.DefaultMounts && g.Tell {
		var err error
		if least, err = g.estimateMounts(ctx, p, stay); err != nil {
			return err
		}
	}
	if least <= share.DefaultMounts {
		return nil
	}
	return g.overlays(p, least)
}

// staying returns how many mounts the packages have that neither go nor are
// replaced.
func (p *Plan) staying(state *transaction.State) int {
	gone := map[string]bool{}
	for _, step := range p.steps {
		if step.Action == solve.Remove {
			gone[step.Package.ID] = true
		}
		for _, old := range step.Old {
			gone[old.ID] = true
		}
		if same := p.again[step.Package]; same != nil {
			gone[same.ID] = true
		}
	}
	n := 0
	for i := range state.Packages {
		if !gone[state.Packages[i].Ref.ID.Hex()] {
			n += len(state.Packages[i].Placed.Mounts)
		}
	}
	return n
}

// estimateMounts counts the mounts that what comes would take.
func (g *Guest) estimateMounts(ctx context.Context, p *Plan, stay int) (int, error) {
	for _, candidate := range p.coming() {
		list, err := g.Catalog.FileList(ctx, candidate)
		if err != nil {
			return 0, err
		}
		stay += mountsOf(list, g.exists)
	}
	return stay, nil
}

func (g *Guest) exists(dir string) bool {
	_, err := os.Stat(filepath.Join(g.Root, dir))
	return err == nil
}

// mountsOf counts the mounts of one package by itself: one for the topmost
// directory that the guest lacks and that holds nothing private, otherwise one
// for each file.
func mountsOf(list *repo.FileList, exists func(dir string) bool) int {
	mixed := map[string]bool{"/": true}
	for i := range list.Files {
		if f := &list.Files[i]; share.Private(f) {
			for p := f.Path; !mixed[p]; p = path.Dir(p) {
				mixed[p] = true
			}
		}
	}
	folds := map[string]bool{} // directory → whether it is folded by itself or with one above
	var fold func(dir string) bool
	n := 0
	fold = func(dir string) bool {
		is, known := folds[dir]
		if known || dir == "/" {
			return is
		}
		if is = fold(path.Dir(dir)); !is && !mixed[dir] && !exists(dir) {
			is = true
			n++
		}
		folds[dir] = is
		return is
	}
	for i := range list.Files {
		if f := &list.Files[i]; f.Type == repo.Regular && !share.Private(f) && !fold(path.Dir(f.Path)) {
			n++
		}
	}
	return n
}

// overlays switches a plan to them, if the guest can have any.
func (g *Guest) overlays(p *Plan, mounts int) error {
	p.budget = 0
	means, err := g.Transaction.Means()
	if err != nil || !means.Overlay {
		return err
	}
	p.Method, p.Converted = share.Overlay, len(g.Transaction.State().Packages)
	p.Why = fmt.Sprintf("%d mounts or more would be too many for this guest (%d): its packages are shared by overlays from now on", mounts, share.DefaultMounts)
	return nil
}
