package policy

import (
	"fmt"
	"path"
	"slices"

	"stork/repo"
)

// Decision is what a policy says of one package.
type Decision struct {
	Allowed bool
	Rule    int    // the rule that decided, from 0; -1 if none matched. Lower is preferred
	Reason  string // for people
}

// Decide applies the rules to one package of a publisher. The key is the pin
// under which the caller has verified the publisher's index, and id the digest
// of the package's record: names alone prove nothing.
func (p *Policy) Decide(publisher repo.Publisher, key repo.Digest, pkg repo.NEVRA, id repo.Digest) Decision {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(publisher, key, pkg, id) {
			continue
		}
		verb := "allows"
		if r.Action == Deny {
			verb = "denies"
		}
		return Decision{
			Allowed: r.Action == Allow, Rule: i,
			Reason: fmt.Sprintf("rule %d of %s %s %s", i+1, p.Role, verb, r.String()),
		}
	}
	return Decision{Rule: -1, Reason: fmt.Sprintf("no rule of %s allows %s from %s", p.Role, pkg.Name, publisher)}
}

func (r *Rule) matches(publisher repo.Publisher, key repo.Digest, pkg repo.NEVRA, id repo.Digest) bool {
	if r.Publisher != "" && r.Publisher != publisher {
		return false
	}
	if !r.Key.IsZero() && r.Key != key {
		return false
	}
	if ok, err := path.Match(r.Packages, string(pkg.Name)); err != nil || !ok {
		return false
	}
	if len(r.IDs) != 0 && !slices.Contains(r.IDs, id) {
		return false
	}
	has := Version{Op: repo.Equal, EVR: pkg.EVR}.capability()
	return !slices.ContainsFunc(r.Versions, func(v Version) bool { return !v.capability().Overlaps(has) })
}

// String describes what the rule matches.
func (r *Rule) String() string {
	s := r.Packages
	for _, v := range r.Versions {
		text, _ := v.MarshalText() // never fails
		s += " " + string(text)
	}
	if len(r.IDs) != 0 {
		s += fmt.Sprintf(" with one of %d package IDs", len(r.IDs))
	}
	if r.Publisher == "" {
		return s + " from anybody"
	}
	s += " from " + string(r.Publisher)
	if !r.Key.IsZero() {
		s += " (key " + r.Key.Short() + ")"
	}
	return s
}
