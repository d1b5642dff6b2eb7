package guest

import (
	"fmt"
	"io"
	"sync"

	"stork/client/change"
	"stork/client/cli/show"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// progress shows what long work does: a bar for each package on a terminal,
// nothing elsewhere. Work that is done at once shows nothing at all.
type progress struct {
	mu    sync.Mutex
	bars  *show.Bars
	by    map[repo.Digest]*packageBar
	names map[repo.Digest]string // what bars are called
	on    bool                   // on a terminal
}

type packageBar struct {
	bar   *show.Bar
	phase api.Phase
}

func newProgress(w io.Writer, quiet bool) *progress {
	return &progress{bars: show.NewBars(w), by: map[repo.Digest]*packageBar{}, on: !quiet && show.IsTerminal(w)}
}

// event shows the nest's progress.
func (p *progress) event(e api.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on || e.Progress == nil {
		return
	}
	if e.Progress.Phase == api.Ready {
		p.done(e.Progress.ID)
		return
	}
	if e.Progress.Total <= 0 {
		return
	}
	b := p.by[e.Progress.ID]
	if b == nil || b.phase != e.Progress.Phase {
		p.done(e.Progress.ID)
		b = p.add(e.Progress)
	}
	b.bar.Set(e.Progress.Done)
}

func (p *progress) add(e *api.Progress) *packageBar {
	b := &packageBar{p.bars.Add(fmt.Sprintf("%-10s %s", e.Phase, p.name(e.ID)), e.Total, show.InBytes), e.Phase}
	p.by[e.ID] = b
	return b
}

// planned tells what the plan's packages are called.
func (p *progress) planned(plan *change.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names = map[repo.Digest]string{}
	for i := range plan.Packages {
		p.names[plan.Packages[i].ID] = string(plan.Packages[i].Name)
	}
}

func (p *progress) name(id repo.Digest) string {
	if name, ok := p.names[id]; ok {
		return name
	}
	return id.Short()
}

// done takes the package's bar away.
func (p *progress) done(id repo.Digest) {
	if b := p.by[id]; b != nil {
		b.bar.Drop()
		delete(p.by, id)
	}
}

// step hears of the transaction; what scriptlets and placing do is quick, so
// only warnings, which the outcome lists too, would be shown.
func (p *progress) step(transaction.Event) {}

// close takes all bars away.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.by {
		p.done(id)
	}
	p.bars.Close()
	p.on = false
}
