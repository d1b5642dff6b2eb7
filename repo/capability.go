package repo

import (
	"fmt"
	"strings"
)

// Op compares versions in a capability.
type Op string

// The operators, as they are written.
const (
	Any          Op = ""
	Less         Op = "<"
	LessEqual    Op = "<="
	Equal        Op = "="
	GreaterEqual Op = ">="
	Greater      Op = ">"
	NotEqual     Op = "<>"
)

// Capability is something a package provides or asks for: a name, such as
// "webserver", "libc.so.6(GLIBC_2.34)(64bit)" or "/usr/bin/perl", and a range
// of versions. Its text form is "name" or "name op evr".
type Capability struct {
	Name string
	Op   Op
	EVR  EVR
}

const maxCapability = 4096

// ParseCapability reads the text form of a capability. It refuses rich
// dependencies: see [ParseRequirement].
func ParseCapability(s string) (Capability, error) {
	fields := strings.Split(s, " ")
	c := Capability{Name: fields[0]}
	if len(s) > maxCapability || c.Name == "" || c.Name[0] == '(' || strings.ContainsFunc(s, isControl) {
		return Capability{}, fmt.Errorf("cannot parse capability %q", s)
	}
	switch len(fields) {
	case 1:
		return c, nil
	case 3:
	default:
		return Capability{}, fmt.Errorf("cannot parse capability %q: want name or name op version", s)
	}
	c.Op = Op(fields[1])
	switch c.Op {
	case Less, LessEqual, Equal, GreaterEqual, Greater, NotEqual:
	default:
		return Capability{}, fmt.Errorf("cannot parse capability %q: unknown operator %q", s, fields[1])
	}
	evr, err := ParseEVR(fields[2])
	if err != nil {
		return Capability{}, fmt.Errorf("cannot parse capability %q: %w", s, err)
	}
	c.EVR = evr
	return c, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// String returns the text form.
func (c Capability) String() string {
	if c.Op == Any {
		return c.Name
	}
	return c.Name + " " + string(c.Op) + " " + c.EVR.String()
}

// IsPath reports whether the capability is a file's path.
func (c Capability) IsPath() bool { return strings.HasPrefix(c.Name, "/") }

// MarshalText implements [encoding.TextMarshaler].
func (c Capability) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Capability) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCapability(string(b))
	return err
}

// Overlaps reports whether the ranges of c and o have a version in common, as
// rpm's rpmverOverlap decides it: names must be equal, a side without a
// version matches every version, and where one side has no release the
// releases are not compared: equal versions then match if that side's
// operator includes equality, whatever the other's is.
func (c Capability) Overlaps(o Capability) bool {
	if c.Name != o.Name {
		return false
	}
	if c.Op == Any || o.Op == Any {
		return true
	}
	order := c.EVR.compareVersion(o.EVR)
	hasC, hasO := c.EVR.Release != "", o.EVR.Release != ""
	if order == 0 && hasC && hasO {
		order = CompareVersion(c.EVR.Release, o.EVR.Release)
	}
	switch {
	case order < 0:
		return c.Op.above() || o.Op.below()
	case order > 0:
		return c.Op.below() || o.Op.above()
	}
	if hasC && !hasO && o.Op.includes() || hasO && !hasC && c.Op.includes() {
		return true
	}
	return c.Op.includes() && o.Op.includes() ||
		c.Op.below() && o.Op.below() ||
		c.Op.above() && o.Op.above()
}

func (o Op) above() bool    { return o == Greater || o == GreaterEqual || o == NotEqual }
func (o Op) below() bool    { return o == Less || o == LessEqual || o == NotEqual }
func (o Op) includes() bool { return o == Equal || o == LessEqual || o == GreaterEqual }
