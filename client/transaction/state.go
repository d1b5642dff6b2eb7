package transaction

import (
	"errors"
	"fmt"
	"slices"

	"stork/client/share"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// Reason is why a package is installed.
type Reason string

// The reasons.
const (
	ByUser       Reason = "user"
	ByDependency Reason = "dependency"
	ByWeak       Reason = "weak" // another package recommends or supplements it
)

// stateFormat is the version of the state file that this code writes and
// reads.
const stateFormat = 1

// State is what is installed in a guest. It is complete: neither the nest
// nor the repository is needed to list, to solve against, to verify or to
// remove what is in it.
type State struct {
	Aliases     map[string]string  `json:"aliases,omitempty"`     // with which the environment was asked for
	Environment *share.Environment `json:"environment,omitempty"` // what is mounted with overlays; nil: nothing
	Format      int                `json:"format"`
	Merged      []repo.Digest      `json:"merged,omitempty"` // what the environment is made of, if not of Packages: something has failed
	Method      share.Method       `json:"method,omitempty"` // the share method that the guest's owner chose; empty: any
	Packages    []Installed        `json:"packages"`         // sorted by name, then in the order of installation
	Serial      int64              `json:"serial"`           // grows by one with every transaction
}

// Installed is one installed package.
type Installed struct {
	Entry        index.Entry        `json:"entry"` // what the solver needs, as when it was installed
	FileTriggers []repo.FileTrigger `json:"file_triggers,omitempty"`
	Placed       share.Placed       `json:"placed"`
	Reason       Reason             `json:"reason"`
	Ref          api.PackageRef     `json:"ref"`
	Scriptlets   []repo.Scriptlet   `json:"scriptlets,omitempty"` // those that its removal runs
	Time         int64              `json:"time"`                 // when it was installed, seconds since the epoch
	Triggers     []repo.Trigger     `json:"triggers,omitempty"`
}

// NEVRA returns the package's name, version and architecture.
func (p *Installed) NEVRA() repo.NEVRA { return p.Entry.NEVRA() }

// Find returns the package with that ID, or nil.
func (s *State) Find(id repo.Digest) *Installed {
	for i := range s.Packages {
		if s.Packages[i].Ref.ID == id {
			return &s.Packages[i]
		}
	}
	return nil
}

// Named returns the installed packages of that name.
func (s *State) Named(name repo.Name) []*Installed {
	var found []*Installed
	for i := range s.Packages {
		if s.Packages[i].Ref.Name == name {
			found = append(found, &s.Packages[i])
		}
	}
	return found
}

// IDs returns the IDs of all packages.
func (s *State) IDs() []repo.Digest {
	ids := make([]repo.Digest, len(s.Packages))
	for i := range s.Packages {
		ids[i] = s.Packages[i].Ref.ID
	}
	return ids
}

// Owns reports whether a package has put path into the guest, itself or as
// part of a shared directory or of the environment. Symlinks are not followed.
func (s *State) Owns(path string) bool {
	for i := range s.Packages {
		if s.Packages[i].Placed.Owns(path) {
			return true
		}
	}
	if s.Environment == nil || slices.Contains(s.Environment.Own, path) {
		return false
	}
	// If its trees can not be read nothing of them is to be seen either.
	has, err := s.Environment.Has(path)
	return err == nil && has
}

// Sharing returns the method by which packages are shared, empty if none is:
// there are none, or only copies.
func (s *State) Sharing() share.Method {
	if s.Environment != nil {
		return share.Overlay
	}
	for i := range s.Packages {
		if m := s.Packages[i].Placed.Method; m != share.Copy {
			return m
		}
	}
	return ""
}

// Mounts returns how many mounts the guest has for its packages.
func (s *State) Mounts() int {
	n := 0
	for i := range s.Packages {
		n += len(s.Packages[i].Placed.Mounts)
	}
	if s.Environment != nil {
		n += len(s.Environment.Roots)
	}
	return n
}

// placed returns what every package has in the guest.
func (s *State) placed() []share.Placed {
	placed := make([]share.Placed, len(s.Packages))
	for i := range s.Packages {
		placed[i] = s.Packages[i].Placed
	}
	return placed
}

// clone returns a copy whose package list may be changed.
func (s *State) clone() *State {
	c := *s
	c.Packages = slices.Clone(s.Packages)
	return &c
}

// decodeState reads a state file.
func decodeState(b []byte) (*State, error) {
	s := new(State)
	if err := repo.DecodeStrict(b, s); err != nil {
		return nil, err
	}
	if s.Format != stateFormat {
		return nil, fmt.Errorf("unknown format %d: this program reads %d", s.Format, stateFormat)
	}
	if err := s.validateSharing(); err != nil {
		return nil, err
	}
	seen := map[repo.Digest]bool{}
	for i := range s.Packages {
		p := &s.Packages[i]
		if p.Ref.ID.IsZero() || p.Ref.ID != p.Placed.ID || p.Ref.Name != p.Entry.Name || seen[p.Ref.ID] {
			return nil, fmt.Errorf("package %d (%s) is incomplete or twice", i, p.Ref.Name)
		}
		seen[p.Ref.ID] = true
		if err := p.Placed.Validate(); err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Ref.Name, err)
		}
	}
	return s, nil
}

func (s *State) validateSharing() error {
	if s.Method != "" && !s.Method.Valid() {
		return fmt.Errorf("unknown share method %q", s.Method)
	}
	if s.Environment == nil {
		return nil
	}
	if s.Environment.None() {
		return errors.New("an environment without ID")
	}
	return s.Environment.Validate()
}
