// Package policy is the owner's trust policy: ordered rules that say which
// packages, from whom, an owner's guests may run. The first rule that matches
// decides, and what no rule matches is refused.
//
// Start with [Decode], on the bytes of the target that
// signing.PolicyTarget names, and [Policy.Decide].
package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"stork/repo"
	"stork/signing/trust"
)

// Format is the version of the policy document that this code writes and
// reads.
const Format = 1

// Bounds that no sensible policy meets.
const (
	maxRules    = 10_000
	maxPerRule  = 10_000 // IDs, versions
	maxPattern  = 255
	maxOffline  = 366 * 24 * time.Hour
	identityCap = 1_000
)

// Policy is an owner's signed rules. Its order is also preference: what an
// earlier rule allows is taken before what a later one allows.
type Policy struct {
	Format     int         `json:"format"`
	Offline    Duration    `json:"offline,omitzero"`    // how long after expiry metadata still serves new installs
	Repository repo.Digest `json:"repository,omitzero"` // the only repository it is for; zero: any
	Role       repo.Role   `json:"role"`                // the owner
	Rules      []Rule      `json:"rules"`
}

// Action is what a rule does.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// Rule matches packages by all that it states. An allow rule always names a
// publisher and its pin; a deny rule may leave both out and then matches
// every publisher.
type Rule struct {
	Action    Action         `json:"action"`
	IDs       []repo.Digest  `json:"ids,omitempty"`       // package IDs, any of which; none: every package
	Key       repo.Digest    `json:"key,omitzero"`        // the publisher's pin: SHA-256 of its key document, version 1
	Packages  string         `json:"packages"`            // pattern of package names, as path.Match
	Publisher repo.Publisher `json:"publisher,omitempty"` // see Key
	Versions  []Version      `json:"versions,omitempty"`  // comparisons that all must hold
}

// Version is one comparison with a package's epoch, version and release,
// such as ">= 1.2" or "< 2:1.0-3". Releases are compared only if it has one.
type Version struct {
	Op  repo.Op
	EVR repo.EVR
}

// versionName stands for the package in the capability that carries a
// Version: repo knows how to compare those.
const versionName = "version"

func (v Version) capability() repo.Capability {
	return repo.Capability{Name: versionName, Op: v.Op, EVR: v.EVR}
}

// MarshalText implements [encoding.TextMarshaler].
func (v Version) MarshalText() ([]byte, error) {
	return []byte(strings.TrimPrefix(v.capability().String(), versionName+" ")), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Version) UnmarshalText(b []byte) error {
	c, err := repo.ParseCapability(versionName + " " + string(b))
	if err != nil || c.Op == repo.Any {
		return fmt.Errorf("cannot parse version range %q: want an operator and a version", b)
	}
	v.Op, v.EVR = c.Op, c.EVR
	return nil
}

// Duration is a [time.Duration] in whole seconds, written as Go writes it
// ("72h0m0s").
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	parsed, err := time.ParseDuration(string(b))
	if err != nil || parsed < 0 || parsed > maxOffline || parsed%time.Second != 0 {
		return fmt.Errorf("cannot parse duration %q: want whole seconds up to a year, such as 72h0m0s", b)
	}
	*d = Duration(parsed)
	return nil
}

// Encode checks the policy and returns its canonical JSON.
func (p *Policy) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("cannot encode trust policy: %w", err)
	}
	b, err := repo.EncodeCanonical(p)
	if err == nil && len(b) > repo.MaxPolicy {
		err = fmt.Errorf("cannot encode trust policy: over %d bytes", repo.MaxPolicy)
	}
	return b, err
}

// Decode reads a policy. The caller has verified that the owner signed it.
func Decode(b []byte) (*Policy, error) {
	if len(b) > repo.MaxPolicy {
		return nil, fmt.Errorf("cannot decode trust policy: over %d bytes", repo.MaxPolicy)
	}
	p := new(Policy)
	err := repo.DecodeCanonical(b, p)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot decode trust policy: %w", err)
	}
	return p, nil
}

func (p *Policy) check() error {
	if p.Format != Format {
		return fmt.Errorf("unknown format %d: this program reads %d", p.Format, Format)
	}
	if role, err := repo.ParseRole(string(p.Role)); err != nil || !role.IsOwner() {
		return fmt.Errorf("role %q is no owner's", p.Role)
	}
	if p.Offline < 0 || time.Duration(p.Offline) > maxOffline {
		return errors.New("offline is out of range")
	}
	if p.Rules == nil || len(p.Rules) > maxRules {
		return fmt.Errorf("want a list of at most %d rules", maxRules)
	}
	for i := range p.Rules {
		if err := p.Rules[i].check(); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	if n := len(p.Publishers()); n > identityCap {
		return fmt.Errorf("%d publishers, at most %d may be named", n, identityCap)
	}
	return nil
}

func (r *Rule) check() error {
	switch r.Action {
	case Allow:
		if r.Publisher == "" || r.Key.IsZero() {
			return errors.New("an allow rule names a publisher and its key")
		}
	case Deny:
		if r.Publisher == "" && !r.Key.IsZero() {
			return errors.New("a key without its publisher")
		}
	default:
		return fmt.Errorf("unknown action %q", r.Action)
	}
	if r.Publisher != "" {
		if _, err := repo.ParsePublisher(string(r.Publisher)); err != nil {
			return err
		}
	}
	if _, err := path.Match(r.Packages, ""); err != nil || r.Packages == "" || len(r.Packages) > maxPattern {
		return fmt.Errorf("bad pattern %q of package names", r.Packages)
	}
	if len(r.IDs) > maxPerRule || len(r.Versions) > maxPerRule {
		return fmt.Errorf("over %d package IDs or version ranges", maxPerRule)
	}
	return nil
}

// CheckOrigin refuses a policy that its owner made for another role or
// another repository than those it was found in.
func (p *Policy) CheckOrigin(role repo.Role, repository repo.Digest) error {
	if p.Role != role {
		return fmt.Errorf("cannot use trust policy of %s: it is that of %s", role, p.Role)
	}
	if !p.Repository.IsZero() && p.Repository != repository {
		return fmt.Errorf("cannot use trust policy of %s in repository %s: it is for %s", role, repository, p.Repository)
	}
	return nil
}

// Publishers returns the pins of the publishers that some rule allows, each
// once, in the order of the rules.
func (p *Policy) Publishers() []trust.Pin {
	var pins []trust.Pin
	seen := map[trust.Pin]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		pin := trust.Pin{Role: r.Publisher.PublisherRole(), Digest: r.Key}
		if r.Action != Allow || seen[pin] {
			continue
		}
		seen[pin] = true
		pins = append(pins, pin)
	}
	return pins
}
