package share

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"

	"stork/repo"
)

// Plan is everything that a change does to a guest. It is data, so that the
// journal can keep it: whoever has the plan can finish it or undo it. See
// [MakePlan].
type Plan struct {
	Tag      string    `json:"tag"` // names the plan's temporary files
	Method   Method    `json:"method"`
	Elements []Element `json:"elements"`
}

// Element is the part of a plan that belongs to one package. Elements that
// add come first, in the order of [Change.Add]. Those that remove can be
// applied in any order after all that add, or, for a package that is
// replaced, right after its successor.
type Element struct {
	ID     repo.Digest   `json:"id"`
	Remove bool          `json:"remove,omitempty"`
	Ops    []Op          `json:"ops,omitempty"`
	Placed Placed        `json:"placed,omitzero"`  // what an added package has afterwards
	Shifts []Shift       `json:"shifts,omitempty"` // what it changes of installed packages
	Takes  []repo.Digest `json:"takes,omitempty"`  // packages that go, from which it takes paths over
	Notes  []string      `json:"notes,omitempty"`  // for people: files that were kept aside

	// Environment is what the guest has mounted once the element is applied,
	// if that changes: to be stored. One that is none says that nothing is
	// mounted any more.
	Environment *Environment `json:"environment,omitempty"`
}

// Shift is how the mounts, or symlinks, of a package change that itself stays
// as it is: one that was a whole directory becomes several.
type Shift struct {
	ID   repo.Digest `json:"id"`
	Drop []string    `json:"drop"` // paths of folded directories
	Gain Placed      `json:"gain"`
}

// Apply returns what the package has after the shift.
func (s *Shift) Apply(placed Placed) Placed {
	kept := make([]Mount, 0, len(placed.Mounts)+len(s.Gain.Mounts))
	for _, m := range placed.Mounts {
		if !slices.Contains(s.Drop, m.Target) {
			kept = append(kept, m)
		}
	}
	placed.Mounts = append(kept, s.Gain.Mounts...)
	placed.Dirs = append(slices.Clip(placed.Dirs), s.Gain.Dirs...)
	links := make([]Link, 0, len(placed.Links)+len(s.Gain.Links))
	for _, l := range placed.Links {
		if !l.Dir || !slices.Contains(s.Drop, l.Path) {
			links = append(links, l)
		}
	}
	placed.Links = append(links, s.Gain.Links...)
	placed.Files = append(slices.Clip(placed.Files), s.Gain.Files...)
	return placed
}

// OpKind is one kind of change to a guest.
type OpKind string

// The kinds. Every one can be repeated, and all but OpDrop and, unless it
// says what to make again, OpRmdir, which only packages that go have, can be
// undone.
const (
	OpMkdir   OpKind = "mkdir"
	OpMount   OpKind = "mount"   // Layer/Source on Path
	OpUnmount OpKind = "unmount" // Layer/Source from Path
	OpPut     OpKind = "put"     // a file, symlink, fifo or node at Path
	OpTake    OpKind = "take"    // Path goes, and is kept until the transaction is committed
	OpDrop    OpKind = "drop"    // Path goes
	OpRmdir   OpKind = "rmdir"   // if it is empty
	OpSwap    OpKind = "swap"    // one environment for another
	OpMove    OpKind = "move"    // From becomes Path: in a Swap's Own only
	OpReveal  OpKind = "reveal"  // a directory hides nothing below it any more: in a Swap's Own only
)

// Swap is the exchange of a guest's environment.
type Swap struct {
	From Environment `json:"from"`
	To   Environment `json:"to"`
	Own  []Op        `json:"own,omitempty"` // what changes before in the guest's own directories, below the overlays
}

// Op is one change.
type Op struct {
	Kind   OpKind      `json:"kind"`
	Path   string      `json:"path"`
	Layer  repo.Digest `json:"layer,omitzero"`
	Source string      `json:"source,omitempty"`
	Dir    bool        `json:"dir,omitempty"`
	Fresh  bool        `json:"fresh,omitempty"` // there was nothing at Path; for unmount: what lies below goes too
	Was    *Origin     `json:"was,omitempty"`   // the mount that is replaced
	File   *File       `json:"file,omitempty"`  // attributes of what is put or made
	Time   int64       `json:"time,omitempty"`  // put: modification time, seconds since the epoch
	Xattrs xattrs      `json:"xattrs,omitempty"`
	From   string      `json:"from,omitempty"` // put: a hard link to this path
	Old    bool        `json:"old,omitempty"`  // put: From is meant as it was before the plan
	Swap   *Swap       `json:"swap,omitempty"`
}

type xattrs map[string][]byte

// Origin is where a mount comes from.
type Origin struct {
	Layer  repo.Digest `json:"layer"`
	Source string      `json:"source"`
}

// Needs lists the layers whose views applying the plan needs.
func (p *Plan) Needs() []repo.Digest {
	seen := map[repo.Digest]bool{}
	var ids []repo.Digest
	for _, e := range p.Elements {
		for _, op := range e.Ops {
			if (op.Kind == OpMount || op.Kind == OpPut) && op.Source != "" && !seen[op.Layer] {
				seen[op.Layer] = true
				ids = append(ids, op.Layer)
			}
		}
	}
	return ids
}

// Environments returns those that the plan mounts, to be undone or to be
// finished. After the guest has been restarted their Trees and Upper may have
// other paths: whoever reads the plan from a journal asks the nest, and sets
// them.
func (p *Plan) Environments() []*Environment {
	var list []*Environment
	for i := range p.Elements {
		for _, op := range p.Elements[i].Ops {
			if op.Kind != OpSwap {
				continue
			}
			for _, e := range []*Environment{&op.Swap.From, &op.Swap.To} {
				if !e.None() {
					list = append(list, e)
				}
			}
		}
		if e := p.Elements[i].Environment; !e.None() {
			list = append(list, e)
		}
	}
	return list
}

// Validate holds a plan that was read from a file to the rules that planning
// keeps for environments.
func (p *Plan) Validate() error {
	for i := range p.Elements {
		for _, op := range p.Elements[i].Ops {
			if (op.Kind == OpSwap) != (op.Swap != nil) {
				return fmt.Errorf("operation %q is incomplete", op.Kind)
			}
		}
	}
	for _, e := range p.Environments() {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// tempName names a file beside the target, by the target's name, so that
// recovery finds it again: ".new" is what is about to be renamed to the
// target, ".old" what was there before the plan.
func (p *Plan) tempName(target, suffix string) string {
	sum := sha256.Sum256([]byte(path.Base(target)))
	return ".stork-" + p.Tag + "-" + hex.EncodeToString(sum[:8]) + suffix
}

const (
	newSuffix = ".new"
	oldSuffix = ".old"
)
