package transaction

import (
	"errors"
	"fmt"

	"stork/repo"
)

// checkConversion makes a change that converts the guest into work.
func (g *Guest) checkConversion(w *work) error {
	if !w.method.Valid() {
		return fmt.Errorf("cannot convert packages: unknown share method %q", w.method)
	}
	w.convert = true
	seen := map[repo.Digest]bool{}
	for i := range w.install {
		p := &w.install[i]
		if p.have = g.state.Find(p.Ref.ID); p.have == nil || seen[p.Ref.ID] {
			return fmt.Errorf("cannot convert package %s: it is not installed, or named twice", p.Ref.Name)
		}
		seen[p.Ref.ID] = true
	}
	if len(seen) != len(g.state.Packages) {
		return errors.New("cannot convert packages: some are left out")
	}
	return nil
}

// withoutScripts are the steps of what changes no more than how files are
// shared: nothing of it is run, and a conversion can be undone to the end.
func (w *work) withoutScripts() []step {
	var steps []step
	for i := range w.install {
		p := &w.install[i]
		steps = append(steps, step{Kind: placeStep, ID: p.Ref.ID, Name: p.nevra().String(), Element: i})
	}
	return steps
}
