package transaction

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"stork/client/share"
	"stork/repo"
	"stork/repo/durable"
)

// journalFormat is the version of the journal that this code writes and
// reads.
const journalFormat = 1

// journal is everything that finishing or undoing a transaction takes. It is
// durable before the guest is changed (G1).
type journal struct {
	Add          []Installed            `json:"add"` // in the order of the plan's elements
	Choice       *share.Method          `json:"choice,omitempty"`
	Environments []recipe               `json:"environments,omitempty"` // of the plan; the last is what it leads to
	Format       int                    `json:"format"`
	Plan         share.Plan             `json:"plan"`
	Reasons      map[repo.Digest]Reason `json:"reasons,omitempty"`
	Replaced     []repo.Digest          `json:"replaced,omitempty"` // packages that go for a successor
	Serial       int64                  `json:"serial"`             // of the state that it leads to
	Steps        []step                 `json:"steps"`
}

type stepKind string

const (
	placeStep  stepKind = "place"
	removeStep stepKind = "remove"
	scriptStep stepKind = "script"
)

// step is one thing to do, in order.
type step struct {
	Kind        stepKind    `json:"kind"`
	ID          repo.Digest `json:"id"`                // whose it is; of a trigger: whom it is about
	Name        string      `json:"name"`              // whose it is
	Element     int         `json:"element,omitempty"` // place, remove: of the plan
	Phase       repo.Phase  `json:"phase,omitempty"`
	Interpreter []string    `json:"interpreter,omitempty"`
	Script      string      `json:"script,omitempty"`
	Args        []int       `json:"args,omitempty"`
	Input       string      `json:"input,omitempty"` // what a file trigger reads
}

// progress says that a transaction can not be undone any more, because
// scriptlets may have run or files of a package that goes may be gone, and
// how far it is: Done steps are complete, the next one may have begun.
type progress struct {
	Done    int           `json:"done"`
	Failed  []repo.Digest `json:"failed,omitempty"` // packages whose further steps are skipped
	Left    []int         `json:"left,omitempty"`   // removals among Done that have left something behind
	Serial  int64         `json:"serial"`
	Skipped []int         `json:"skipped,omitempty"` // steps among Done that were not done
}

func (g *Guest) writeState(s *State) error       { return write(&g.kept.state, s) }
func (g *Guest) writeJournal(j *journal) error   { return write(&g.kept.journal, j) }
func (g *Guest) writeProgress(p *progress) error { return write(&g.kept.progress, p) }

func write(to *durable.Slots, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", to.Path, err)
	}
	return to.Write(append(b, '\n'))
}

// readJournal returns nil if there is none.
func (g *Guest) readJournal() (*journal, error) {
	j := new(journal)
	if found, err := read(&g.kept.journal, j); !found || err != nil {
		return nil, err
	}
	if j.Format != journalFormat {
		return nil, fmt.Errorf("cannot read %s: unknown format %d: this program reads %d", g.path(journalName), j.Format, journalFormat)
	}
	if err := j.check(); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", g.path(journalName), err)
	}
	return j, nil
}

// check holds a journal to what the code that carries it out relies on.
func (j *journal) check() error {
	if len(j.Add) > len(j.Plan.Elements) {
		return errors.New("it adds more than it plans")
	}
	if j.Choice != nil && *j.Choice != "" && !j.Choice.Valid() {
		return fmt.Errorf("unknown share method %q", *j.Choice)
	}
	if err := j.Plan.Validate(); err != nil {
		return err
	}
	for i := range j.Plan.Elements {
		e := &j.Plan.Elements[i]
		if e.Remove != (i >= len(j.Add)) || i < len(j.Add) && e.ID != j.Add[i].Ref.ID {
			return fmt.Errorf("element %d of its plan is out of place", i)
		}
		if e.Remove {
			continue
		}
		if err := e.Placed.Validate(); err != nil {
			return err
		}
	}
	for i, s := range j.Steps {
		switch s.Kind {
		case placeStep, removeStep:
			if s.Element < 0 || s.Element >= len(j.Plan.Elements) || j.Plan.Elements[s.Element].Remove != (s.Kind == removeStep) {
				return fmt.Errorf("step %d names no element of its plan", i)
			}
		case scriptStep:
		default:
			return fmt.Errorf("step %d is of unknown kind %q", i, s.Kind)
		}
	}
	return nil
}

// readProgress returns nil if the journal has none.
func (g *Guest) readProgress(j *journal) (*progress, error) {
	p := new(progress)
	found, err := read(&g.kept.progress, p)
	if !found || err != nil || p.Serial != j.Serial {
		return nil, err
	}
	if p.Done < 0 || p.Done > len(j.Steps) {
		return nil, fmt.Errorf("cannot read %s: no such step", g.path(progressName))
	}
	return p, nil
}

func read(from *durable.Slots, v any) (found bool, err error) {
	b, err := from.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = repo.DecodeStrict(b, v)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %s: %w", from.Path, err)
	}
	return true, nil
}

// dropJournal ends the transaction: progress goes, then the journal. It need
// not be durable: a journal beside a state that has its outcome means nothing
// (G3), and neither does the progress of another journal.
func (g *Guest) dropJournal() error {
	if err := g.kept.progress.Clear(); err != nil {
		return err
	}
	return g.kept.journal.Clear()
}
